package builder_test

import (
	"context"
	"log/slog"

	"github.com/wasmop/wasmop/guest-go/builder"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/handler"
	"github.com/wasmop/wasmop/guest-go/manager"
	"github.com/wasmop/wasmop/guest-go/predicate"
	"github.com/wasmop/wasmop/guest-go/reconcile"
)

// The import paths differ from those of controller-runtime only in their prefix.
func Example() {
	mgr := manager.New(manager.Options{})
	reconciler := reconcile.Func(func(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
		slog.Info("reconciling", "name", req.Name)
		return reconcile.Result{}, nil
	})
	err := builder.ControllerManagedBy(mgr).
		For(&corev1.Service{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&corev1.ConfigMap{}, builder.MatchEveryOwner).
		Watches(&corev1.Secret{}, handler.EnqueueRequestForOwner()).
		Complete(reconciler)
	slog.Error("the controller is invalid", "error", err)
}
