package wasmop

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/wasmop/wasmop/guest-go/client"
)

// Builder describes a controller; see NewControllerManagedBy.
type Builder struct {
	manager Manager
	c       controller
	filters []Predicate
	hasFor  bool
	errs    []error
}

// ControllerOptions configures a controller.
type ControllerOptions struct {
	// MaxConcurrentReconciles is how many objects are reconciled at once, each in a goroutine.
	// The default is 1.
	MaxConcurrentReconciles int
}

// NewControllerManagedBy begins the description of a controller; Complete ends it.
func NewControllerManagedBy(m Manager) *Builder {
	return &Builder{manager: m, c: controller{spec: controllerSpec{MaxConcurrentReconciles: 1}}}
}

// Named gives the controller a name; the default is the kind in lower case.
func (b *Builder) Named(name string) *Builder {
	b.c.spec.Name = name
	return b
}

// For names the kind whose objects are reconciled. Exactly one is needed.
func (b *Builder) For(obj client.Object, opts ...WatchOption) *Builder {
	if b.hasFor {
		b.errs = append(b.errs, errors.New("For may be called only once: use Owns or Watches for further kinds"))
	}
	b.hasFor = true
	b.c.spec.Primary = b.watch(obj, relationOwn, opts)
	return b
}

// Owns watches a kind of objects that the reconciled ones control; a change of one reconciles the
// object that controls it.
func (b *Builder) Owns(obj client.Object, opts ...WatchOption) *Builder {
	return b.add(b.watch(obj, relationController, opts), nil)
}

// Watches watches any other kind; the handler says what to reconcile when an object changes.
func (b *Builder) Watches(obj client.Object, handler EventHandler, opts ...WatchOption) *Builder {
	var m *mapper
	if handler.relation == relationMap {
		if handler.f == nil {
			b.errs = append(b.errs, errors.New("EnqueueRequestsFromMapFunc needs a function"))
		}
		m = &mapper{object: reflect.TypeOf(obj).Elem(), f: handler.f}
	}
	return b.add(b.watch(obj, handler.relation, opts), m)
}

// WithEventFilter applies a predicate to everything the controller watches.
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
		b.errs = append(b.errs, errors.New("For is missing: name the kind to reconcile"))
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
		b.errs = append(b.errs, fmt.Errorf("the Resource method of %T must give Version and Kind", obj))
	}
	w := watchSpec{Group: r.Group, Version: r.Version, Kind: r.Kind, Plural: r.Plural, Relation: rel, namespaced: r.Namespaced}
	for _, o := range opts {
		o(&w)
	}
	return w
}

// MapFunc names what to reconcile because of a watched object. What it named for the object before is
// reconciled as well: after a label has moved from one name to another, both are. So is what it names
// without there being such an object.
//
// For a deleted object it gets the last state the host knows. If that is no more than the name, it is
// not called, and what it named before is reconciled.
type MapFunc func(ctx context.Context, obj client.Object) []Request

// EventHandler says what to reconcile when a watched object changes.
type EventHandler struct {
	relation relation
	f        MapFunc
}

// EnqueueRequestForObject reconciles an object with the name of the one that changed.
func EnqueueRequestForObject() EventHandler { return EventHandler{relation: relationOwn} }

// EnqueueRequestForOwner reconciles every owner of the one that changed that is of the kind the
// controller is For.
func EnqueueRequestForOwner() EventHandler { return EventHandler{relation: relationOwner} }

// EnqueueRequestsFromMapFunc reconciles what the function names. The guest runs for each change
// of a watched object, and the host has to send it whole; the other handlers cost the guest nothing.
func EnqueueRequestsFromMapFunc(f MapFunc) EventHandler {
	return EventHandler{relation: relationMap, f: f}
}
