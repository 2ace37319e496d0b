// Package reconcile contains the interface of reconcilers. Its path and its names are those of controller-runtime's
// package reconcile. The types are aliases of those in package wasmop.
package reconcile

import "github.com/wasmop/wasmop/guest-go"

// Request identifies the object to reconcile.
type Request = wasmop.Request

// Result determines when the object is reconciled again.
type Result = wasmop.Result

// Reconciler brings the cluster in line with the desired state of an object.
type Reconciler = wasmop.Reconciler

// Func is a function that implements Reconciler.
type Func = wasmop.Func

// TerminalError wraps an error that a retry cannot fix.
func TerminalError(err error) error { return wasmop.TerminalError(err) }
