package controllerutil

import (
	"fmt"
	"strings"

	"github.com/wasmop/wasmop/guest-go/metav1"
)

// AlreadyOwnedError is the error if another object controls the object.
type AlreadyOwnedError struct {
	Object metav1.Object
	Owner  metav1.OwnerReference
}

func (e *AlreadyOwnedError) Error() string {
	return fmt.Sprintf("%s %s is already controlled by %s %s", e.Object.Resource().Kind, e.Object.GetName(), e.Owner.Kind, e.Owner.Name)
}

// SetControllerReference makes owner the controller owner of the object. The object is deleted with its owner, and its
// changes reconcile the owner if the controller Owns its kind.
func SetControllerReference(owner, object metav1.Object) error {
	yes := true
	if c := metav1.GetControllerOf(object); c != nil && c.UID != owner.GetUID() {
		return &AlreadyOwnedError{Object: object, Owner: *c}
	}
	return setReference(owner, object, &yes)
}

// SetOwnerReference adds owner to the owners of the object, but not as the controller owner.
func SetOwnerReference(owner, object metav1.Object) error {
	return setReference(owner, object, nil)
}

func setReference(owner, object metav1.Object, controls *bool) error {
	r := owner.Resource()
	if owner.GetUID() == "" {
		return fmt.Errorf("%s %s cannot be an owner: it has no UID; read it from the API server first", r.Kind, owner.GetName())
	}
	if r.Namespaced && (!object.Resource().Namespaced || object.GetNamespace() != owner.GetNamespace()) {
		return fmt.Errorf("%s %s/%s cannot own %s %s: owners must be in the same namespace or cluster-scoped",
			r.Kind, owner.GetNamespace(), owner.GetName(), object.Resource().Kind, object.GetName())
	}
	reference := metav1.OwnerReference{
		APIVersion: r.APIVersion(), Kind: r.Kind, Name: owner.GetName(), UID: owner.GetUID(),
		Controller: controls, BlockOwnerDeletion: controls,
	}
	m := object.GetObjectMeta()
	for i, o := range m.OwnerReferences {
		if o.Kind == r.Kind && o.Name == reference.Name && group(o.APIVersion) == r.Group {
			m.OwnerReferences[i] = reference
			return nil
		}
	}
	m.OwnerReferences = append(m.OwnerReferences, reference)
	return nil
}

func group(apiVersion string) string {
	g, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return g
}
