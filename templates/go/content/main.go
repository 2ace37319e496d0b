// Command main is a controller for Websites: for each it keeps a ConfigMap with the content, a
// Deployment of web servers that show it, and a Service in front of them.
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
		// Changes of its own status are no reason to reconcile a Website.
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
