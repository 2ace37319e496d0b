// Package metav1 contains what all Kubernetes objects share: type and object metadata, owner references, conditions and
// times. The names and the JSON are those of k8s.io/apimachinery. The types are plain structs, which encoding/json
// handles under both Go and TinyGo.
//
// The types of this module contain only the common fields. This is safe with server-side apply and patches, which
// change only the fields that they contain. It is not safe to Update (PUT) an object whose kind has fields that the
// struct lacks, because this removes them. So use Update only for kinds that you define yourself.
package metav1
