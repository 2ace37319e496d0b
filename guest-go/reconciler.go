package wasmop

import (
	"context"
	"errors"
	"time"

	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
)

// Version is the version of this SDK.
const Version = "0.1.0"

// NamespacedName names an object of a known kind.
type NamespacedName = client.ObjectKey

// Request names the object to reconcile.
type Request struct{ NamespacedName }

// Result says when to reconcile the object again; the zero value: when something changes.
type Result struct {
	// Requeue asks for another reconcile with backoff.
	//
	// Deprecated: return an error, or set RequeueAfter. The host reports it as an error.
	Requeue bool
	// RequeueAfter asks for another reconcile after that time, unless a change comes first.
	RequeueAfter time.Duration
}

// Reconciler brings the world in line with one object.
type Reconciler interface {
	// Reconcile is called for one object at a time, never twice at once for the same one. An error
	// makes the host retry with exponential backoff. ctx ends when the host cancels the reconcile.
	Reconcile(ctx context.Context, req Request) (Result, error)
}

// Func is a function that is a Reconciler.
type Func func(context.Context, Request) (Result, error)

// Reconcile calls the function.
func (f Func) Reconcile(ctx context.Context, req Request) (Result, error) { return f(ctx, req) }

// TerminalError wraps an error that retrying would not help: it is logged, and the object is left
// alone until it changes.
func TerminalError(err error) error { return &terminalError{err} }

type terminalError struct{ err error }

func (e *terminalError) Error() string { return "terminal error: " + e.err.Error() }
func (e *terminalError) Unwrap() error { return e.err }

var errRequeue = errors.New("the reconciler asked to be requeued")

// Name is the name of the package this controller runs as, from its wasmop.toml. It is known once
// main runs, not yet while packages are initialised.
func Name() string { return abi.Name() }

// Sleep waits, and ends early with an error when ctx ends, which a time.Sleep would not. A reconcile
// that waits long keeps its object from being reconciled; prefer Result.RequeueAfter.
func Sleep(ctx context.Context, d time.Duration) error { return abi.Sleep(ctx, d) }
