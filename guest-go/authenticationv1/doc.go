// Package authenticationv1 contains the TokenRequest of the API group authentication.k8s.io, the body of the
// subresource "token" of ServiceAccounts.
package authenticationv1
