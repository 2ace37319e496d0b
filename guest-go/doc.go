// Package wasmop runs a Kubernetes controller as a wasmop guest, in the shapes of
// controller-runtime: a Manager, a builder, a Reconciler, a Client.
//
// The host does what controller-runtime does around a reconciler: it watches, filters, queues,
// limits concurrency and backs off. The guest is only the reconciler; between reconciles, and while
// one waits for the API server, it may be suspended to disk with everything it holds in memory.
//
//	func main() {
//		mgr := wasmop.NewManager(wasmop.Options{})
//		err := wasmop.NewControllerManagedBy(mgr).
//			For(&Website{}, wasmop.WithPredicates(wasmop.GenerationChangedPredicate{})).
//			Owns(&appsv1.Deployment{}).
//			Complete(&WebsiteReconciler{Client: mgr.GetClient()})
//		if err == nil {
//			err = mgr.Start(context.Background())
//		}
//		slog.Error("the manager ended", "error", err)
//		os.Exit(1)
//	}
//
// The same source is built by Go and by TinyGo; `wasmop build` calls either. What differs: under
// TinyGo a panic cannot be recovered, so it ends the step instead of the reconcile (the host then
// rolls the step back), and goroutine stacks have a fixed size.
package wasmop
