// Package client reads and writes Kubernetes objects through the host, in the shapes of
// controller-runtime's client package. Calls block the goroutine that makes them and nothing else;
// while they wait the controller may be suspended to disk and resumed.
//
// There is no cache: a Get is a request to the API server (the host may answer it from its own
// watches). Objects are plain structs, see package metav1, also for when Update is safe.
//
// Objects must be of types encoding/json can marshal (no channels, functions or complex numbers, no
// NaN): TinyGo cannot recover from the panic encoding/json uses inside for anything else.
package client
