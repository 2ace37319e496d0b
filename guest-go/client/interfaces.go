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

// ObjectKey names an object of a known kind. Namespace is empty for cluster-scoped kinds.
type ObjectKey struct{ Namespace, Name string }

// String returns "namespace/name", or the name alone.
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

// IgnoreNotFound returns nil for the error that an object does not exist, and any other as it is.
func IgnoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Reader reads objects.
type Reader interface {
	// Get reads an object into obj, with FromCache from the host's cache. The error is apierrors.IsNotFound if there is none.
	Get(ctx context.Context, key ObjectKey, obj Object, opts ...GetOption) error
	// List reads all objects that match the options into list, in pages, item by item: memory holds them once.
	List(ctx context.Context, list ObjectList, opts ...ListOption) error
}

// Writer writes objects. Each method but Delete and DeleteAllOf updates obj with the answer.
type Writer interface {
	Create(ctx context.Context, obj Object, opts ...WriteOption) error
	// Update replaces the whole object; see package metav1 for kinds it is safe with.
	Update(ctx context.Context, obj Object, opts ...WriteOption) error
	// Patch changes an object: with Apply (server-side apply), MergeFrom or RawPatch.
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
	// Create posts sub to the subresource of obj, an Eviction for example. The answer replaces sub if it is one.
	Create(ctx context.Context, obj, sub Object, opts ...WriteOption) error
	// Update replaces the subresource by that of obj, or by the one of WithSubResourceBody.
	Update(ctx context.Context, obj Object, opts ...WriteOption) error
	// Patch changes the subresource of obj; with WithSubResourceBody the patch is one of that.
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
	// Do makes any other request and returns when the answer begins; its body can be streamed.
	Do(ctx context.Context, r Request) (*Response, error)
}
