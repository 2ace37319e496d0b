// Package controllers keeps the settings of caches.
package controllers

import (
	"context"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	cachev1alpha1 "example.com/cache-operator/api/v1alpha1"
)

const finalizer = "cache.example.com/finalizer"

// CacheReconciler reconciles caches.
type CacheReconciler struct {
	client.Client
	Scheme   *runtime.Scheme
	Recorder record.EventRecorder
}

//+kubebuilder:rbac:groups=cache.example.com,resources=caches,verbs=get;list;watch;update;patch
//+kubebuilder:rbac:groups=cache.example.com,resources=caches/finalizers,verbs=update
//+kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;update;delete
//+kubebuilder:rbac:groups="",resources=events,verbs=create;patch

// Reconcile writes the settings of a cache. They have no owner, so that the finalizer deletes them.
func (r *CacheReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	cache := &cachev1alpha1.Cache{}
	if err := r.Get(ctx, req.NamespacedName, cache); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cache.Namespace, Name: cache.Name + "-settings"}}
	if !cache.DeletionTimestamp.IsZero() {
		if !controllerutil.ContainsFinalizer(cache, finalizer) {
			return ctrl.Result{}, nil
		}
		if err := r.Delete(ctx, settings); client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
		r.Recorder.Event(cache, corev1.EventTypeNormal, "Deleted", "Deleted the settings")
		controllerutil.RemoveFinalizer(cache, finalizer)
		return ctrl.Result{}, r.Update(ctx, cache)
	}
	if controllerutil.AddFinalizer(cache, finalizer) {
		if err := r.Update(ctx, cache); err != nil {
			return ctrl.Result{}, err
		}
	}
	_, err := controllerutil.CreateOrUpdate(ctx, r.Client, settings, func() error {
		settings.Data = map[string]string{"size": strconv.Itoa(int(cache.Spec.Size))}
		return nil
	})
	return ctrl.Result{}, err
}

// SetupWithManager adds the controller to a manager.
func (r *CacheReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).For(&cachev1alpha1.Cache{}).Complete(r)
}
