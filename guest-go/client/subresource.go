package client

import (
	"context"
)

// subResource reads and writes a subresource of objects, or the objects themselves if the name is empty.
type subResource struct{ name string }

func (s subResource) Get(ctx context.Context, obj, sub Object, opts ...GetOption) error {
	path, err := s.path(obj)
	if err != nil {
		return err
	}
	return get(ctx, path, sub, opts)
}

func (s subResource) Create(ctx context.Context, obj, sub Object, opts ...WriteOption) error {
	path, err := s.path(obj)
	if err != nil {
		return err
	}
	return write(ctx, "POST", path, "application/json", sub, encode, optionsOf(opts))
}

func (s subResource) Update(ctx context.Context, obj Object, opts ...WriteOption) error {
	path, err := s.path(obj)
	if err != nil {
		return err
	}
	o := optionsOf(opts)
	return write(ctx, "PUT", path, "application/json", o.bodyOr(obj), encode, o)
}

func (s subResource) Patch(ctx context.Context, obj Object, patch Patch, opts ...WriteOption) error {
	path, err := s.path(obj)
	if err != nil {
		return err
	}
	o := optionsOf(opts)
	return write(ctx, "PATCH", path, patch.Type(), o.bodyOr(obj), patch.Data, o)
}

func (s subResource) path(obj Object) (string, error) {
	return objectPath(obj.Resource(), ObjectKeyFromObject(obj), s.name)
}
