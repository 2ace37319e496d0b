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

// NamespacedName identifies an object of a known kind.
type NamespacedName = client.ObjectKey

// Request identifies the object to reconcile.
type Request struct{ NamespacedName }

// Result determines when the object is reconciled again. The zero value means at the next change.
type Result struct {
	// Requeue requests another reconcile with backoff.
	//
	// Deprecated: return an error or set RequeueAfter. The host reports Requeue as an error.
	Requeue bool
	// RequeueAfter requests another reconcile after this time, unless a change causes one earlier.
	RequeueAfter time.Duration
}

// Reconciler brings the cluster in line with the desired state of an object.
type Reconciler interface {
	// Reconcile reconciles one object. Reconciles of the same object never run concurrently. After an error the host
	// retries with exponential backoff. ctx ends when the host cancels the reconcile.
	Reconcile(ctx context.Context, req Request) (Result, error)
}

// Func is a function that implements Reconciler.
type Func func(context.Context, Request) (Result, error)

// Reconcile calls the function.
func (f Func) Reconcile(ctx context.Context, req Request) (Result, error) { return f(ctx, req) }

// TerminalError wraps an error that a retry cannot fix. The error is logged, and the object is reconciled at its next
// change.
func TerminalError(err error) error { return &terminalError{err} }

type terminalError struct{ err error }

func (e *terminalError) Error() string { return "terminal error: " + e.err.Error() }
func (e *terminalError) Unwrap() error { return e.err }

var errRequeue = errors.New("the reconciler requested a requeue")

// Name returns the package's name in wasmop.toml. It is available from main on, but not in package initializers.
func Name() string { return abi.Name() }

// Sleep waits, and returns an error early if ctx ends. While a reconcile sleeps, its object is not reconciled again, so
// prefer Result.RequeueAfter for long waits.
func Sleep(ctx context.Context, d time.Duration) error { return abi.Sleep(ctx, d) }
