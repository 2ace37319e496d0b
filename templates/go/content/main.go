// Command main is a controller for Websites. It serves each with a ConfigMap for the content, a Deployment of web
// servers, and a Service.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/wasmop/wasmop/guest-go"
	"github.com/wasmop/wasmop/guest-go/appsv1"
	"github.com/wasmop/wasmop/guest-go/corev1"
)

func main() {
	mgr := wasmop.NewManager(wasmop.Options{})
	err := wasmop.NewControllerManagedBy(mgr).
		// The controller's own status updates cause no reconcile.
		For(&Website{}, wasmop.WithPredicates(wasmop.GenerationChangedPredicate{})).
		Owns(&corev1.ConfigMap{}).
		Owns(&appsv1.Deployment{}).
		Owns(&corev1.Service{}).
		WithOptions(wasmop.ControllerOptions{MaxConcurrentReconciles: 10}).
		Complete(&WebsiteReconciler{
			Client:   mgr.GetClient(),
			Recorder: mgr.GetEventRecorder(wasmop.Name()),
		})
	if err == nil {
		err = mgr.Start(context.Background())
	}
	slog.Error("the manager ended", "error", err)
	os.Exit(1)
}
