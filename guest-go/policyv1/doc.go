// Package policyv1 contains the Eviction of the API group policy, the body of the subresource "eviction" of Pods.
package policyv1
