package wasmop_test

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/wasmop/wasmop/guest-go"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/controllerutil"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/meta"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// Website is a custom resource.
type Website struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              WebsiteSpec   `json:"spec"`
	Status            WebsiteStatus `json:"status,omitempty"`
}

func (*Website) Resource() metav1.Resource {
	return metav1.Resource{Group: "example.com", Version: "v1", Kind: "Website", Plural: "websites", Namespaced: true}
}

type WebsiteSpec struct {
	Content string `json:"content"`
	// Theme is the name of a ConfigMap.
	Theme string `json:"theme,omitempty"`
}

type WebsiteStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

type WebsiteReconciler struct {
	client.Client
}

// Reconcile keeps a ConfigMap with the content of the Website.
func (r *WebsiteReconciler) Reconcile(ctx context.Context, req wasmop.Request) (wasmop.Result, error) {
	var site Website
	if err := r.Get(ctx, req.NamespacedName, &site); err != nil {
		return wasmop.Result{}, client.IgnoreNotFound(err)
	}
	page := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: site.Namespace, Name: site.Name},
		Data:       map[string]string{"index.html": site.Spec.Content},
	}
	if err := controllerutil.SetControllerReference(&site, page); err != nil {
		return wasmop.Result{}, err
	}
	return wasmop.Result{}, r.Patch(ctx, page, client.Apply, client.ForceOwnership)
}

// A complete program. main must not return.
func Example() {
	mgr := wasmop.NewManager(wasmop.Options{})
	err := wasmop.NewControllerManagedBy(mgr).
		For(&Website{}, wasmop.WithPredicates(wasmop.GenerationChangedPredicate{})).
		Owns(&corev1.ConfigMap{}).
		Complete(&WebsiteReconciler{Client: mgr.GetClient()})
	if err == nil {
		err = mgr.Start(context.Background())
	}
	slog.Error("the manager ended", "error", err)
	os.Exit(1)
}

// A reconcile that adds a finalizer before it creates something outside the cluster, and publishes its state.
func ExampleFunc() {
	const finalizer = "example.com/cleanup"
	mgr := wasmop.NewManager(wasmop.Options{})
	c := mgr.GetClient()
	reconcile := func(ctx context.Context, req wasmop.Request) (wasmop.Result, error) {
		var site Website
		if err := c.Get(ctx, req.NamespacedName, &site); err != nil {
			return wasmop.Result{}, client.IgnoreNotFound(err)
		}
		before := client.DeepCopy(&site)
		if site.DeletionTimestamp != nil {
			// Delete what Kubernetes does not know, such as a DNS record. Then release the object.
			if !controllerutil.RemoveFinalizer(&site, finalizer) {
				return wasmop.Result{}, nil
			}
			return wasmop.Result{}, c.Patch(ctx, &site, client.MergeFromWithOptimisticLock(before))
		}
		if controllerutil.AddFinalizer(&site, finalizer) {
			if err := c.Patch(ctx, &site, client.MergeFromWithOptimisticLock(before)); err != nil {
				return wasmop.Result{}, err
			}
			before = client.DeepCopy(&site)
		}
		meta.SetStatusCondition(&site.Status.Conditions, metav1.Condition{
			Type: "Ready", Status: metav1.ConditionTrue, Reason: "Published", ObservedGeneration: site.Generation,
		})
		return wasmop.Result{RequeueAfter: 5 * time.Minute}, c.Status().Patch(ctx, &site, client.MergeFrom(before))
	}
	err := wasmop.NewControllerManagedBy(mgr).For(&Website{}).Complete(wasmop.Func(reconcile))
	slog.Error("the controller is invalid", "error", err)
}

// A change of a ConfigMap reconciles the Websites that use it as their theme.
func ExampleEnqueueRequestsFromMapFunc() {
	mgr := wasmop.NewManager(wasmop.Options{})
	c := mgr.GetClient()
	byTheme := func(ctx context.Context, theme client.Object) []wasmop.Request {
		var sites metav1.List[Website]
		if err := c.List(ctx, &sites, client.InNamespace(theme.GetNamespace()), client.FromCache); err != nil {
			wasmop.LoggerFrom(ctx).Error("cannot list Websites", "error", err)
		}
		var requests []wasmop.Request
		for i := range sites.Items {
			if site := &sites.Items[i]; site.Spec.Theme == theme.GetName() {
				requests = append(requests, wasmop.Request{NamespacedName: client.ObjectKeyFromObject(site)})
			}
		}
		return requests
	}
	err := wasmop.NewControllerManagedBy(mgr).
		For(&Website{}, wasmop.Cached).
		Watches(&corev1.ConfigMap{}, wasmop.EnqueueRequestsFromMapFunc(byTheme)).
		Complete(&WebsiteReconciler{Client: c})
	slog.Error("the controller is invalid", "error", err)
}

// The host evaluates the expression, so an ignored change does not resume the controller.
func ExampleCELPredicate() {
	mgr := wasmop.NewManager(wasmop.Options{})
	labelsOrSpec := wasmop.CELPredicate("object.spec != oldObject.spec || object.metadata.labels != oldObject.metadata.labels")
	err := wasmop.NewControllerManagedBy(mgr).
		For(&Website{}, wasmop.WithPredicates(labelsOrSpec)).
		Complete(&WebsiteReconciler{Client: mgr.GetClient()})
	slog.Error("the controller is invalid", "error", err)
}
