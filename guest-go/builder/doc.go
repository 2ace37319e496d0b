// Package builder builds controllers. Its path and its names are those of controller-runtime's package builder. The
// types are aliases of those in package wasmop.
package builder

import "github.com/wasmop/wasmop/guest-go"

// Builder builds a controller.
type Builder = wasmop.Builder

// WatchOption configures a watch of For, Owns or Watches.
type WatchOption = wasmop.WatchOption

// ControllerManagedBy returns a Builder of a controller for a Manager.
func ControllerManagedBy(m wasmop.Manager) *Builder { return wasmop.NewControllerManagedBy(m) }

// WithPredicates ignores changes that do not satisfy all of the predicates.
func WithPredicates(predicates ...wasmop.Predicate) WatchOption {
	return wasmop.WithPredicates(predicates...)
}

// MatchEveryOwner makes Owns reconcile all owners of the reconciled kind, not only the controller owner.
var MatchEveryOwner WatchOption = wasmop.MatchEveryOwner
