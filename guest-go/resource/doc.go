// Package resource contains the quantity of the Kubernetes API, like k8s.io/apimachinery/pkg/api/resource.
package resource
