package wasmop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"

	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/codec"
)

// Options configures a Manager.
type Options struct {
	// Namespace restricts all controllers to one namespace; empty: all that the host watches.
	Namespace string
}

// Manager holds the controllers of a program and what they share.
type Manager interface {
	// GetClient returns a client for the API server.
	GetClient() client.Client
	// GetEventRecorder returns a recorder of Events that are reported by a controller of that name.
	GetEventRecorder(name string) EventRecorder
	// Add has a Runnable started with the controllers.
	Add(Runnable) error
	// Start registers the controllers with the host and serves it; it returns only if that fails
	// or when ctx ends.
	Start(ctx context.Context) error

	add(*controller) error
}

// Runnable is something that runs beside the controllers.
type Runnable interface {
	// Start returns when it is finished or ctx ends.
	Start(ctx context.Context) error
}

// RunnableFunc is a function that is a Runnable.
type RunnableFunc func(context.Context) error

// Start calls the function.
func (f RunnableFunc) Start(ctx context.Context) error { return f(ctx) }

// NewManager returns a Manager without controllers.
func NewManager(o Options) Manager { return &manager{options: o} }

type manager struct {
	options Options

	mu          sync.Mutex
	started     bool
	controllers []*controller // in the order of registration, which is the host's index
	runnables   []Runnable
}

// controller is what a builder completes.
type controller struct {
	spec       controllerSpec
	reconciler Reconciler
	// maps is parallel to spec.Watches; nil where the host knows the relation.
	maps []*mapper
}

type mapper struct {
	object reflect.Type // the struct, without the pointer
	f      MapFunc
}

func (m *manager) GetClient() client.Client { return client.New() }

func (m *manager) GetEventRecorder(name string) EventRecorder { return newRecorder(name) }

func (m *manager) Add(r Runnable) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started {
		return errors.New("the manager has been started")
	}
	m.runnables = append(m.runnables, r)
	return nil
}

func (m *manager) add(c *controller) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started {
		return errors.New("the manager has been started")
	}
	for _, other := range m.controllers {
		if other.spec.Name == c.spec.Name {
			return fmt.Errorf("two controllers are called %q: give one of them another name with Named", c.spec.Name)
		}
	}
	c.spec.Namespace = m.options.Namespace
	m.controllers = append(m.controllers, c)
	return nil
}

func (m *manager) Start(ctx context.Context) error {
	m.mu.Lock()
	if m.started {
		m.mu.Unlock()
		return errors.New("the manager has been started")
	}
	m.started = true
	m.mu.Unlock()
	if len(m.controllers) == 0 && len(m.runnables) == 0 {
		return errors.New("the manager has no controllers: add one with NewControllerManagedBy(mgr)…Complete(r)")
	}
	abi.Serve(m)
	for _, c := range m.controllers {
		spec, err := json.Marshal(&c.spec)
		if err != nil {
			return err
		}
		abi.Register(string(spec))
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

// Reconcile answers the host's reconcile event.
func (m *manager) Reconcile(ctx context.Context, index int, key string) abi.Outcome {
	c := m.controllers[index]
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

// Map answers the host's map event.
func (m *manager) Map(ctx context.Context, index, watch int, data []byte) []string {
	mapper := m.controllers[index].maps[watch]
	value := reflect.New(mapper.object).Interface()
	if err := codec.Unmarshal(data, value); err != nil {
		slog.Error("a watched object does not fit its type", "type", mapper.object.String(), "error", err)
		return nil
	}
	requests := mapper.f(ctx, value.(client.Object))
	keys := make([]string, len(requests))
	for i, r := range requests {
		keys[i] = r.String()
	}
	return keys
}

func parseKey(key string) NamespacedName {
	if namespace, name, ok := strings.Cut(key, "/"); ok {
		return NamespacedName{Namespace: namespace, Name: name}
	}
	return NamespacedName{Name: key}
}
