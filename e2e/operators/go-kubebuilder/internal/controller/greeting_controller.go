// Package controller reconciles greetings.
package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	greeterv1 "example.com/greeter/api/v1"
)

const finalizer = "greeter.example.com/farewell"

// GreetingReconciler keeps the ConfigMap of each greeting.
type GreetingReconciler struct {
	client.Client
	Scheme   *runtime.Scheme
	Recorder events.EventRecorder
	// Version is written into each ConfigMap.
	Version string

	// reconciles counts in memory, so it shows whether the process was started again.
	reconciles int64
}

// +kubebuilder:rbac:groups=greeter.example.com,resources=greetings,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=greeter.example.com,resources=greetings/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=greeter.example.com,resources=greetings/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile writes the ConfigMap and the status of a greeting.
func (r *GreetingReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	log := logf.FromContext(ctx)
	r.reconciles++
	var greeting greeterv1.Greeting
	if err := r.Get(ctx, req.NamespacedName, &greeting); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	farewell := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: req.Namespace, Name: req.Name + "-farewell"}}
	if !greeting.DeletionTimestamp.IsZero() {
		if !controllerutil.ContainsFinalizer(&greeting, finalizer) {
			return ctrl.Result{}, nil
		}
		farewell.Data = map[string]string{"text": "Goodbye, " + greeting.Spec.Text}
		if err := r.Create(ctx, farewell); client.IgnoreAlreadyExists(err) != nil {
			return ctrl.Result{}, err
		}
		controllerutil.RemoveFinalizer(&greeting, finalizer)
		return ctrl.Result{}, r.Update(ctx, &greeting)
	}
	if controllerutil.AddFinalizer(&greeting, finalizer) {
		if err := r.Update(ctx, &greeting); err != nil {
			return ctrl.Result{}, err
		}
	}

	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: req.Namespace, Name: req.Name}}
	result, err := controllerutil.CreateOrUpdate(ctx, r.Client, config, func() error {
		config.Data = map[string]string{"text": "Hello, " + greeting.Spec.Text, "version": r.Version}
		return ctrl.SetControllerReference(&greeting, config, r.Scheme)
	})
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the ConfigMap: %w", err)
	}
	if result == controllerutil.OperationResultCreated {
		r.Recorder.Eventf(&greeting, config, corev1.EventTypeNormal, "Greeted", "Create", "created ConfigMap %s", config.Name)
	}
	log.Info("Reconciled", "configMap", result, "reconciles", r.reconciles)

	refresh := time.Duration(greeting.Spec.RefreshSeconds) * time.Second
	current := greeting.Status.ObservedGeneration == greeting.Generation
	if current && refresh == 0 {
		return ctrl.Result{}, nil
	}
	greeting.Status.ObservedGeneration = greeting.Generation
	greeting.Status.Refreshes++
	meta.SetStatusCondition(&greeting.Status.Conditions, metav1.Condition{
		Type: "Ready", Status: metav1.ConditionTrue, Reason: "Greeted", Message: greeting.Spec.Text,
		ObservedGeneration: greeting.Generation,
	})
	if err := r.Status().Update(ctx, &greeting); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: refresh}, nil
}

// SetupWithManager watches greetings and the ConfigMaps that they own.
func (r *GreetingReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&greeterv1.Greeting{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&corev1.ConfigMap{}).
		Named("greeting").
		Complete(r)
}
