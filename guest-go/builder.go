package wasmop

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/wasmop/wasmop/guest-go/client"
)

// Builder builds a controller; see NewControllerManagedBy.
type Builder struct {
	manager Manager
	c       controller
	filters []Predicate
	hasFor  bool
	errs    []error
}

// ControllerOptions configures a controller.
type ControllerOptions struct {
	// MaxConcurrentReconciles is the maximum number of concurrent reconciles. Each runs in its own goroutine.
	// The default is 1.
	MaxConcurrentReconciles int
}

// NewControllerManagedBy returns a Builder of a controller for mgr. Complete adds the controller to mgr.
func NewControllerManagedBy(m Manager) *Builder {
	return &Builder{manager: m, c: controller{spec: controllerSpec{MaxConcurrentReconciles: 1}}}
}

// Named sets the name of the controller. The default is the kind in lower case.
func (b *Builder) Named(name string) *Builder {
	b.c.spec.Name = name
	return b
}

// For sets the kind to reconcile. It must be called exactly once.
func (b *Builder) For(obj client.Object, opts ...WatchOption) *Builder {
	if b.hasFor {
		b.errs = append(b.errs, errors.New("For can be called only once: use Owns or Watches for other kinds"))
	}
	b.hasFor = true
	b.c.spec.Primary = b.watch(obj, relationOwn, opts)
	return b
}

// Owns watches a kind that the reconciled objects control. When an object of this kind changes, its controller owner is
// reconciled.
func (b *Builder) Owns(obj client.Object, opts ...WatchOption) *Builder {
	return b.add(b.watch(obj, relationController, opts), nil)
}

// Watches watches any other kind. The handler determines the objects to reconcile when an object changes.
func (b *Builder) Watches(obj client.Object, handler EventHandler, opts ...WatchOption) *Builder {
	var m *mapper
	if handler.relation == relationMap {
		if handler.f == nil {
			b.errs = append(b.errs, errors.New("EnqueueRequestsFromMapFunc requires a function"))
		}
		m = &mapper{object: reflect.TypeOf(obj).Elem(), f: handler.f}
	}
	return b.add(b.watch(obj, handler.relation, opts), m)
}

// WithEventFilter applies a predicate to all watches of the controller.
func (b *Builder) WithEventFilter(p Predicate) *Builder {
	b.filters = append(b.filters, p)
	return b
}

// WithOptions sets the controller's options.
func (b *Builder) WithOptions(o ControllerOptions) *Builder {
	if o.MaxConcurrentReconciles > 0 {
		b.c.spec.MaxConcurrentReconciles = o.MaxConcurrentReconciles
	}
	return b
}

// Complete adds the controller to the manager.
func (b *Builder) Complete(r Reconciler) error {
	if !b.hasFor {
		b.errs = append(b.errs, errors.New("For is missing: set the kind to reconcile"))
	}
	if r == nil {
		b.errs = append(b.errs, errors.New("the reconciler is nil"))
	}
	if len(b.errs) > 0 {
		return fmt.Errorf("controller %q: %w", b.c.spec.Name, errors.Join(b.errs...))
	}
	if b.c.spec.Name == "" {
		b.c.spec.Name = strings.ToLower(b.c.spec.Primary.Kind)
	}
	for _, p := range b.filters {
		p.apply(&b.c.spec.Primary)
		for i := range b.c.spec.Watches {
			p.apply(&b.c.spec.Watches[i])
		}
	}
	c := b.c
	c.reconciler = r
	return b.manager.add(&c)
}

func (b *Builder) add(w watchSpec, m *mapper) *Builder {
	b.c.spec.Watches = append(b.c.spec.Watches, w)
	b.c.maps = append(b.c.maps, m)
	return b
}

func (b *Builder) watch(obj client.Object, rel relation, opts []WatchOption) watchSpec {
	r := obj.Resource()
	if r.Version == "" || r.Kind == "" {
		b.errs = append(b.errs, fmt.Errorf("the Resource method of %T must return a Version and a Kind", obj))
	}
	w := watchSpec{Group: r.Group, Version: r.Version, Kind: r.Kind, Plural: r.Plural, Relation: rel, namespaced: r.Namespaced}
	for _, o := range opts {
		o(&w)
	}
	return w
}

// MapFunc returns the objects to reconcile when a watched object changes. The objects that it returned for the previous
// version are reconciled as well. For example, if a label changes from one name to another, both named objects are
// reconciled. Returned objects need not exist.
//
// For a deleted object it receives the last version that the host knows. If the host knows only the name, the function
// is not called, and the objects that it returned for the previous version are reconciled.
type MapFunc func(ctx context.Context, obj client.Object) []Request

// EventHandler determines the objects to reconcile when a watched object changes.
type EventHandler struct {
	relation relation
	f        MapFunc
}

// EnqueueRequestForObject reconciles the object with the same name as the changed object.
func EnqueueRequestForObject() EventHandler { return EventHandler{relation: relationOwn} }

// EnqueueRequestForOwner reconciles all owners of the changed object that have the kind of For.
func EnqueueRequestForOwner() EventHandler { return EventHandler{relation: relationOwner} }

// EnqueueRequestsFromMapFunc reconciles the objects that the function returns. The host sends each changed object to
// the guest, which must run the function. The other handlers run in the host.
func EnqueueRequestsFromMapFunc(f MapFunc) EventHandler {
	return EventHandler{relation: relationMap, f: f}
}
