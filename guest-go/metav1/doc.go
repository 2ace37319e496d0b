// Package metav1 has what every Kubernetes object has: type and object metadata, owner references,
// conditions, times. The names and the JSON are those of k8s.io/apimachinery; the types are plain
// structs that encoding/json handles under Go and TinyGo alike.
//
// The types carry the common fields only. That is safe with server-side apply and with patches,
// which touch nothing but the fields they name. It is not safe to Update (PUT) an object whose
// kind has fields the struct lacks: they would be removed. Update is for kinds you define yourself.
package metav1
