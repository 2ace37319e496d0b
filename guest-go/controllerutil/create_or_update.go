package controllerutil

import (
	"context"
	"fmt"

	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/equality"
)

// OperationResult is the result of CreateOrPatch.
type OperationResult string

// The values of OperationResult.
const (
	OperationResultNone    OperationResult = "unchanged"
	OperationResultCreated OperationResult = "created"
	OperationResultUpdated OperationResult = "updated"
)

// CreateOrPatch reads obj, calls mutate to change it, and creates it or sends the differences as a merge patch.
// Server-side apply (client.Apply) does the same in one request.
//
// Unlike controller-runtime's CreateOrUpdate it never sends the whole object, so fields that the struct lacks are
// unchanged.
func CreateOrPatch[T any, P interface {
	*T
	client.Object
}](ctx context.Context, c client.Client, obj P, mutate func() error) (OperationResult, error) {
	key := client.ObjectKeyFromObject(obj)
	err := c.Get(ctx, key, obj)
	if err != nil && !apierrors.IsNotFound(err) {
		return OperationResultNone, err
	}
	exists := err == nil
	before := client.DeepCopy[T, P](obj)
	if err := mutate(); err != nil {
		return OperationResultNone, err
	}
	if client.ObjectKeyFromObject(obj) != key {
		return OperationResultNone, fmt.Errorf("mutate must not change the name or namespace of %s", key)
	}
	if !exists {
		return OperationResultCreated, c.Create(ctx, obj)
	}
	if equality.Semantic.DeepEqual(before, obj) {
		return OperationResultNone, nil
	}
	return OperationResultUpdated, c.Patch(ctx, obj, client.MergeFrom(before))
}
