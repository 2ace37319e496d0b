package wasmop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/wasmop/wasmop/guest-go/cache"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
)

// Options configures a Manager.
type Options struct {
	// Namespace restricts all controllers to one namespace. Empty means all namespaces that the host watches.
	// Cluster-scoped kinds are not restricted. For several namespaces use Cache.
	Namespace string
	// Cache restricts the watches of all or some kinds to namespaces.
	Cache cache.Options
}

// Manager runs the controllers of a program.
type Manager interface {
	// GetClient returns a client for the API server.
	GetClient() client.Client
	// GetEventRecorder returns a recorder of Events. name is the reporting controller.
	GetEventRecorder(name string) EventRecorder
	// Add adds a Runnable, which Start starts with the controllers.
	Add(Runnable) error
	// Start registers the controllers with the host and runs them. It returns only if this fails or when ctx ends.
	Start(ctx context.Context) error

	add(*controller) error
}

// Runnable runs alongside the controllers.
type Runnable interface {
	// Start returns when the work is done or ctx ends.
	Start(ctx context.Context) error
}

// RunnableFunc is a function that implements Runnable.
type RunnableFunc func(context.Context) error

// Start calls the function.
func (f RunnableFunc) Start(ctx context.Context) error { return f(ctx) }

// NewManager returns a Manager without controllers.
func NewManager(o Options) Manager { return &manager{options: o} }

type manager struct {
	options Options

	mu          sync.Mutex
	started     bool
	controllers []*controller
	runnables   []Runnable
}

// controller is the result of a Builder.
type controller struct {
	spec       controllerSpec
	reconciler Reconciler
	// maps has an element per element of spec.Watches. It is nil if the host evaluates the relation.
	maps []*mapper
}

func (m *manager) GetClient() client.Client { return client.New() }

func (m *manager) GetEventRecorder(name string) EventRecorder { return newRecorder(name) }

func (m *manager) Add(r Runnable) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started {
		return errors.New("the manager has already been started")
	}
	m.runnables = append(m.runnables, r)
	return nil
}

func (m *manager) add(c *controller) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started {
		return errors.New("the manager has already been started")
	}
	for _, other := range m.controllers {
		if other.spec.Name == c.spec.Name {
			return fmt.Errorf("two controllers have the name %q: rename one of them with Named", c.spec.Name)
		}
	}
	if err := m.options.apply(&c.spec); err != nil {
		return err
	}
	m.controllers = append(m.controllers, c)
	return nil
}

func (m *manager) Start(ctx context.Context) error {
	m.mu.Lock()
	if m.started {
		m.mu.Unlock()
		return errors.New("the manager has already been started")
	}
	m.started = true
	m.mu.Unlock()
	if len(m.controllers) == 0 && len(m.runnables) == 0 {
		return errors.New("the manager has no controllers: add one with NewControllerManagedBy(mgr)…Complete(r)")
	}
	if err := m.register(); err != nil {
		return err
	}
	failed := make(chan error, len(m.runnables))
	for _, r := range m.runnables {
		go func() {
			if err := r.Start(ctx); err != nil {
				failed <- err
			}
		}()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// registering serializes the registrations of several managers.
var registering sync.Mutex

// register registers the controllers with the host. The host does not know managers, so names must be unique among the
// controllers of all managers.
func (m *manager) register() error {
	registering.Lock()
	defer registering.Unlock()
	for _, h := range abi.Registered() {
		other := h.(*controller)
		for _, c := range m.controllers {
			if c.spec.Name == other.spec.Name {
				return fmt.Errorf("controller %q has the same name as a controller of another manager: rename one of them with Named", c.spec.Name)
			}
		}
	}
	for _, c := range m.controllers {
		spec, err := json.Marshal(&c.spec)
		if err != nil {
			return err
		}
		abi.Register(string(spec), c)
	}
	return nil
}

// Reconcile handles the host's reconcile event.
func (c *controller) Reconcile(ctx context.Context, key string) abi.Outcome {
	req := Request{parseKey(key)}
	ctx = withLogger(ctx, slog.Default().With("controller", c.spec.Name, "object", key))
	result, err := c.reconciler.Reconcile(ctx, req)
	var terminal *terminalError
	switch {
	case errors.As(err, &terminal):
		LoggerFrom(ctx).Error("reconcile failed for good", "error", err)
		return abi.Outcome{}
	case err != nil:
		return abi.Outcome{Err: err}
	case result.RequeueAfter > 0:
		return abi.Outcome{RequeueAfter: result.RequeueAfter}
	case result.Requeue:
		return abi.Outcome{Err: errRequeue}
	}
	return abi.Outcome{}
}

// Map handles the host's map event.
func (c *controller) Map(ctx context.Context, watch int, object []byte, gone bool) []string {
	return c.maps[watch].keys(ctx, object, gone)
}

func parseKey(key string) NamespacedName {
	if namespace, name, ok := strings.Cut(key, "/"); ok {
		return NamespacedName{Namespace: namespace, Name: name}
	}
	return NamespacedName{Name: key}
}
