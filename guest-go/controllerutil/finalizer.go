package controllerutil

import (
	"slices"

	"github.com/wasmop/wasmop/guest-go/metav1"
)

// ContainsFinalizer reports whether the object has the finalizer.
func ContainsFinalizer(o metav1.Object, finalizer string) bool {
	return slices.Contains(o.GetObjectMeta().Finalizers, finalizer)
}

// AddFinalizer adds the finalizer to the object in memory and reports whether it was missing. To store it, Update the
// object or Patch it with client.MergeFromWithOptimisticLock.
func AddFinalizer(o metav1.Object, finalizer string) bool {
	if ContainsFinalizer(o, finalizer) {
		return false
	}
	m := o.GetObjectMeta()
	m.Finalizers = append(slices.Clone(m.Finalizers), finalizer)
	return true
}

// RemoveFinalizer removes the finalizer from the object in memory and reports whether it was present.
func RemoveFinalizer(o metav1.Object, finalizer string) bool {
	if !ContainsFinalizer(o, finalizer) {
		return false
	}
	m := o.GetObjectMeta()
	m.Finalizers = slices.DeleteFunc(slices.Clone(m.Finalizers), func(f string) bool { return f == finalizer })
	return true
}
