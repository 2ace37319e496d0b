package abi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrCancelled is the cause of a task's context after the host has canceled the task.
var ErrCancelled = errors.New("cancelled by the host")

// Outcome is the result of a reconcile.
type Outcome struct {
	// RequeueAfter requests another reconcile after this time. 0 requests none.
	RequeueAfter time.Duration
	// Err makes the host retry with backoff, or after RequeueAfter if it is set.
	Err error
}

// Handler handles the host's events for one controller.
type Handler interface {
	Reconcile(ctx context.Context, key string) Outcome
	// Map returns the keys to reconcile because of a watched object. gone says that the object was deleted. In this
	// case it may be only a PartialObjectMetadata.
	Map(ctx context.Context, watch int, object []byte, gone bool) []string
}

// mapGone is set in the watch index of a map event whose object is gone.
const mapGone = 1 << 15

var tasks table[context.CancelCauseFunc]

var (
	handlersMu sync.Mutex
	handlers   []Handler // by the index of the host
)

// Register registers a controller with the host.
func Register(spec string, h Handler) {
	handlersMu.Lock()
	defer handlersMu.Unlock()
	index := int(hostRegister(spec))
	for len(handlers) <= index {
		handlers = append(handlers, nil)
	}
	handlers[index] = h
}

// Registered returns the handlers of all controllers.
func Registered() []Handler {
	handlersMu.Lock()
	defer handlersMu.Unlock()
	return slices.DeleteFunc(slices.Clone(handlers), func(h Handler) bool { return h == nil })
}

func handlerOf(index int) Handler {
	handlersMu.Lock()
	defer handlersMu.Unlock()
	if index < len(handlers) {
		return handlers[index]
	}
	return nil
}

type taskKey struct{}

// Task returns the number of the task that ctx belongs to, or 0. Numbers increase.
func Task(ctx context.Context) uint64 { return taskOf(ctx) }

func taskOf(ctx context.Context) uint64 {
	id, _ := ctx.Value(taskKey{}).(uint64)
	return id
}

// Enter tells the host that code of the task of ctx is about to run. Call it after waits that do not use this package,
// such as a sleep.
func Enter(ctx context.Context) {
	if id := taskOf(ctx); id != 0 {
		hostEnter(id)
	}
}

func startTask(e event, payload []byte) {
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), taskKey{}, e.id))
	tasks.put(e.id, cancel)
	workers.run(func() { runTask(ctx, cancel, e, payload) })
}

func cancelTask(id uint64) {
	if cancel, ok := tasks.take(id); ok {
		cancel(ErrCancelled)
	}
}

// runTask runs the handler and reports the outcome. A panic becomes an error, and its stack is logged. A failed map
// task ends with an error like a reconcile, and the host then reconciles all objects. TinyGo has no recover on wasm.
// There a panic traps, and the host rolls back the step.
func runTask(ctx context.Context, cancel context.CancelCauseFunc, e event, payload []byte) {
	index, watch := int(e.aux), 0
	outcome := Outcome{Err: errors.New("the reconciler ended its goroutine")}
	if e.kind == kindMap {
		index, watch = int(e.aux>>16), int(e.aux&0xffff)
		outcome.Err = errors.New("the map function ended its goroutine")
	}
	h := handlerOf(index)
	var keys []string
	defer func() {
		if p := recover(); p != nil {
			outcome.Err = fmt.Errorf("panic: %v", p)
			Log(Error, "panic", outcome.Err.Error(), appendField(nil, "stack", stack()))
		}
		if _, live := tasks.take(e.id); live { // otherwise the host canceled it and expects no answer
			if e.kind == kindMap && outcome.Err == nil {
				hostMapped(e.id, strings.Join(keys, "\n"))
			} else {
				hostDone(e.id, outcome)
			}
		}
		cancel(context.Canceled)
		hostEnter(0)
	}()
	hostEnter(e.id)
	switch {
	case ctx.Err() != nil: // canceled before it started
	case h == nil:
		outcome = Outcome{Err: errors.New("no such controller is registered")}
	case e.kind == kindMap:
		keys = h.Map(ctx, watch&^mapGone, payload, watch&mapGone != 0)
		outcome.Err = nil
	default:
		outcome = h.Reconcile(ctx, string(payload))
	}
}

// pool reuses goroutines. In TinyGo each has a stack of fixed size on the garbage-collected heap, so a new goroutine
// for every reconcile would cause most of the collector's work.
type pool struct {
	mu   sync.Mutex
	idle []chan func()
}

var workers pool

func (p *pool) run(f func()) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		worker := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		worker <- f
		return
	}
	p.mu.Unlock()
	worker := make(chan func(), 1)
	worker <- f
	go p.work(worker)
}

func (p *pool) work(worker chan func()) {
	// Reached early only if f calls runtime.Goexit, which ends this goroutine.
	for f := range worker {
		f()
		p.mu.Lock()
		p.idle = append(p.idle, worker)
		p.mu.Unlock()
	}
}

// Sleep waits until the time has passed or ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	hostEnter(0)
	defer hostEnter(taskOf(ctx))
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
