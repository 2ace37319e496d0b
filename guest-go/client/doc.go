// Package client reads and writes Kubernetes objects through the host. Its API follows controller-runtime's client
// package. A call blocks only its goroutine. While calls wait, the host may suspend the controller to disk and resume
// it.
//
// There is no cache in the guest. A Get is a request to the API server, unless FromCache allows the host to answer from
// its cache. Objects are plain structs. Package metav1 explains when Update is safe.
//
// Objects must have types that encoding/json can marshal: no channels, functions, complex numbers or NaN. For other
// types encoding/json panics internally, and TinyGo cannot recover from this panic.
package client
