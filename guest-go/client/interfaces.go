package client

import (
	"context"

	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// Object is a pointer to a Kubernetes object.
type Object = metav1.Object

// ObjectList is a pointer to a metav1.List.
type ObjectList = metav1.ObjectList

// ObjectKey identifies an object of a known kind. Namespace is empty for cluster-scoped kinds.
type ObjectKey struct{ Namespace, Name string }

// String returns "namespace/name", or only the name for cluster-scoped kinds.
func (k ObjectKey) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// ObjectKeyFromObject returns the key of an object.
func ObjectKeyFromObject(o Object) ObjectKey {
	return ObjectKey{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// IgnoreNotFound returns nil if err says that an object does not exist. It returns other errors unchanged.
func IgnoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Reader reads objects.
type Reader interface {
	// Get reads an object into obj. With FromCache it may come from the host's cache. If the object does not exist,
	// apierrors.IsNotFound is true for the error.
	Get(ctx context.Context, key ObjectKey, obj Object, opts ...GetOption) error
	// List reads all objects that match the options into list. It requests pages and decodes item by item, so memory
	// holds each object only once.
	List(ctx context.Context, list ObjectList, opts ...ListOption) error
}

// Writer writes objects. All methods except Delete and DeleteAllOf update obj from the response.
type Writer interface {
	Create(ctx context.Context, obj Object, opts ...WriteOption) error
	// Update replaces the whole object. Package metav1 explains for which kinds this is safe.
	Update(ctx context.Context, obj Object, opts ...WriteOption) error
	// Patch changes an object. The patch is Apply (server-side apply), MergeFrom or RawPatch.
	Patch(ctx context.Context, obj Object, patch Patch, opts ...WriteOption) error
	Delete(ctx context.Context, obj Object, opts ...DeleteOption) error
	// DeleteAllOf deletes all objects of obj's kind that match the options.
	DeleteAllOf(ctx context.Context, obj Object, opts ...ListOption) error
}

// SubResourceReader reads a subresource of an object.
type SubResourceReader interface {
	// Get reads the subresource of obj into sub.
	Get(ctx context.Context, obj, sub Object, opts ...GetOption) error
}

// SubResourceWriter writes a subresource of an object.
type SubResourceWriter interface {
	// Create posts sub, such as an Eviction, to the subresource of obj. The response replaces sub if it has the same
	// kind.
	Create(ctx context.Context, obj, sub Object, opts ...WriteOption) error
	// Update replaces the subresource with that of obj, or with the body of WithSubResourceBody.
	Update(ctx context.Context, obj Object, opts ...WriteOption) error
	// Patch changes the subresource of obj. With WithSubResourceBody the patch applies to that body.
	Patch(ctx context.Context, obj Object, patch Patch, opts ...WriteOption) error
}

// SubResourceClient reads and writes a subresource of objects.
type SubResourceClient interface {
	SubResourceReader
	SubResourceWriter
}

// Client reads and writes objects.
type Client interface {
	Reader
	Writer
	// Status writes the status subresource.
	Status() SubResourceWriter
	// SubResource reads and writes a subresource, such as "scale".
	SubResource(name string) SubResourceClient
	// Do sends any other request and returns when the response begins. The caller can stream the body.
	Do(ctx context.Context, r Request) (*Response, error)
}
