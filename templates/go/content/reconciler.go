package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/wasmop/wasmop/guest-go"
	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/appsv1"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/controllerutil"
	"github.com/wasmop/wasmop/guest-go/meta"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// resync is the time between reconciles of a Website without changes.
const resync = 300 * time.Second

// WebsiteReconciler brings the children and the status of a Website in line with its spec.
type WebsiteReconciler struct {
	client.Client
	Recorder wasmop.EventRecorder

	// Memory survives suspending the controller.
	reconciles atomic.Int64
}

// Reconcile runs when a Website or one of its children has changed.
func (r *WebsiteReconciler) Reconcile(ctx context.Context, req wasmop.Request) (wasmop.Result, error) {
	var site Website
	if err := r.Get(ctx, req.NamespacedName, &site); err != nil {
		if apierrors.IsNotFound(err) {
			return wasmop.Result{}, nil // deleted, with nothing to clean up
		}
		return wasmop.Result{}, err
	}
	if site.DeletionTimestamp != nil {
		return wasmop.Result{}, r.cleanUp(ctx, &site)
	}
	reconciles := r.reconciles.Add(1)

	if err := r.addFinalizer(ctx, &site); err != nil {
		return wasmop.Result{}, err
	}
	deployment, err := r.applyChildren(ctx, &site)
	if err != nil {
		return wasmop.Result{}, err
	}
	if err := r.updateStatus(ctx, &site, deployment, reconciles); err != nil {
		return wasmop.Result{}, err
	}
	wasmop.LoggerFrom(ctx).Info("reconciled", "generation", site.Generation, "reconciles", reconciles)
	return wasmop.Result{RequeueAfter: resync}, nil
}

func (r *WebsiteReconciler) addFinalizer(ctx context.Context, site *Website) error {
	before := client.DeepCopy(site)
	if !controllerutil.AddFinalizer(site, finalizer) {
		return nil
	}
	// A merge patch replaces the whole list, so it must be based on the current one.
	return r.Patch(ctx, site, client.MergeFromWithOptimisticLock(before))
}

// applyChildren applies the children and returns the current Deployment.
func (r *WebsiteReconciler) applyChildren(ctx context.Context, site *Website) (*appsv1.Deployment, error) {
	if err := applyChild(ctx, r, site, configMapFor(site)); err != nil {
		return nil, err
	}
	deployment := deploymentFor(site)
	if err := applyChild(ctx, r, site, deployment); err != nil {
		return nil, err
	}
	return deployment, applyChild(ctx, r, site, serviceFor(site))
}

// applyChild creates or updates a child. It does not change an object of the same name that is not a child of the
// Website.
func applyChild[T any, P interface {
	*T
	client.Object
}](ctx context.Context, r *WebsiteReconciler, site *Website, child P) error {
	existing := P(new(T))
	err := r.Get(ctx, client.ObjectKeyFromObject(child), existing)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if owner := metav1.GetControllerOf(existing); err == nil && (owner == nil || owner.UID != site.UID) {
		return fmt.Errorf("%s %s exists and belongs to something else; delete it, or rename the Website",
			child.Resource().Kind, child.GetName())
	}
	if err := controllerutil.SetControllerReference(site, child); err != nil {
		return err
	}
	return r.Patch(ctx, child, client.Apply, client.ForceOwnership)
}

func (r *WebsiteReconciler) updateStatus(ctx context.Context, site *Website, deployment *appsv1.Deployment, reconciles int64) error {
	before := client.DeepCopy(site)
	site.Status.URL = fmt.Sprintf("http://%s.%s.svc", childName(site), site.Namespace)
	site.Status.Reconciles = reconciles
	site.Status.ObservedGeneration = site.Generation

	available := deployment.Status.AvailableReplicas
	ready := metav1.Condition{
		Type:               "Ready",
		Status:             metav1.ConditionFalse,
		Reason:             "DeploymentNotAvailable",
		Message:            fmt.Sprintf("%d of %d replicas are available", available, site.Spec.Replicas),
		ObservedGeneration: site.Generation,
	}
	if available >= site.Spec.Replicas {
		ready.Status, ready.Reason = metav1.ConditionTrue, "DeploymentAvailable"
	}
	meta.SetStatusCondition(&site.Status.Conditions, ready)

	if err := r.Status().Patch(ctx, site, client.MergeFrom(before)); err != nil {
		return client.IgnoreNotFound(err)
	}
	switch before.Status.ObservedGeneration {
	case site.Generation: // no change of the spec
	case 0:
		r.Recorder.Eventf(site, nil, wasmop.EventTypeNormal, "Created", "Reconcile", "Created the ConfigMap, Deployment and Service")
	default:
		r.Recorder.Eventf(site, nil, wasmop.EventTypeNormal, "Updated", "Reconcile", "Updated the ConfigMap, Deployment and Service")
	}
	return nil
}

// cleanUp is the place to delete what Kubernetes does not know, such as a DNS record or a bucket. Kubernetes deletes
// the children because of their owner references.
func (r *WebsiteReconciler) cleanUp(ctx context.Context, site *Website) error {
	before := client.DeepCopy(site)
	if !controllerutil.RemoveFinalizer(site, finalizer) {
		return nil
	}
	r.Recorder.Eventf(before, nil, wasmop.EventTypeNormal, "Deleted", "Reconcile", "Deleted with its ConfigMap, Deployment and Service")
	return client.IgnoreNotFound(r.Patch(ctx, site, client.MergeFromWithOptimisticLock(before)))
}
