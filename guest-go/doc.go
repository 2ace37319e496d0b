// Package wasmop runs a Kubernetes controller as a wasmop guest. Its API follows controller-runtime: a Manager, a
// builder, a Reconciler and a Client.
//
// The host watches, filters, queues, limits concurrency and retries with backoff. The guest contains only the
// reconciler. While it is idle or waits for the API server, the host may suspend it to disk with all its memory.
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
// Both Go and TinyGo compile the same source; `wasmop build` calls either. There are two differences. Under TinyGo a
// panic cannot be recovered, so it ends the step rather than the reconcile, and the host rolls back the step. TinyGo's
// goroutine stacks have a fixed size.
package wasmop
