// Package probe is the conformance guest: a controller that performs the action that each Probe requests.
//
// Tests compare guests of different languages while the host suspends them at any point.
package probe

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"time"

	"github.com/wasmop/wasmop/guest-go"
	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/controllerutil"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

const finalizer = "e2e.wasmop.dev/probe"

// dataChanged ignores changes of a child's labels and annotations.
const dataChanged = "oldObject == null || !has(object.data) || !has(oldObject.data) || object.data != oldObject.data"

var from = flag.String("from", "", "origin of the arguments")

// Main is the guest's main function.
func Main() {
	flag.Parse()
	mgr := wasmop.NewManager(wasmop.Options{})
	if os.Getenv("ASK_FIRST") != "" {
		if err := askFirst(mgr.GetClient()); err != nil {
			slog.Error("asked first", "error", err)
			os.Exit(1)
		}
	}
	err := wasmop.NewControllerManagedBy(mgr).
		// Several guests share a cluster. Each reconciles the Probes with its label.
		For(&Probe{}, wasmop.WithPredicates(
			wasmop.GenerationChangedPredicate{},
			wasmop.LabelSelectorPredicate("guest="+wasmop.Name()))).
		Owns(&corev1.ConfigMap{}, wasmop.Cached, wasmop.IgnoreOwnWrites,
			wasmop.WithPredicates(wasmop.CELPredicate(dataChanged))).
		Watches(&corev1.ServiceAccount{}, wasmop.EnqueueRequestsFromMapFunc(probeOf), wasmop.Cached,
			wasmop.WithPredicates(wasmop.LabelSelectorPredicate("guest="+wasmop.Name()))).
		WithOptions(wasmop.ControllerOptions{MaxConcurrentReconciles: 64}).
		Complete(&reconciler{client: mgr.GetClient(), events: mgr.GetEventRecorder(wasmop.Name())})
	if err == nil && os.Getenv("WATCH_CLUSTER") != "" {
		// A cluster-scoped kind.
		err = wasmop.NewControllerManagedBy(mgr).For(&Namespace{}).Complete(wasmop.Func(seeNamespace))
	}
	if err == nil {
		err = mgr.Start(context.Background())
	}
	slog.Error("the manager ended", "error", err)
	os.Exit(1)
}

// probeOf returns the Probe that a ServiceAccount names in a label.
func probeOf(_ context.Context, account client.Object) []wasmop.Request {
	name := account.GetObjectMeta().Labels["probe"]
	if name == "" {
		return nil
	}
	return []wasmop.Request{{NamespacedName: wasmop.NamespacedName{Namespace: account.GetNamespace(), Name: name}}}
}

// askFirst sends a request before the controller registers.
func askFirst(c client.Client) error {
	var all corev1.ConfigMapList
	err := c.List(context.Background(), &all, client.InNamespace(os.Getenv("POD_NAMESPACE")), client.Limit(1))
	if err == nil {
		// Long enough for a suspension.
		time.Sleep(time.Second)
		slog.Info("asked first")
	}
	return err
}

func seeNamespace(ctx context.Context, req wasmop.Request) (wasmop.Result, error) {
	slog.Info("namespace seen", "namespace", req.Name)
	return wasmop.Result{}, nil
}

type reconciler struct {
	client client.Client
	events wasmop.EventRecorder
	memory memory
}

// Reconcile performs the action of the Probe, and writes the result to its status.
func (r *reconciler) Reconcile(ctx context.Context, req wasmop.Request) (wasmop.Result, error) {
	var p Probe
	if err := r.client.Get(ctx, req.NamespacedName, &p); err != nil {
		if apierrors.IsNotFound(err) {
			return wasmop.Result{}, nil
		}
		return wasmop.Result{}, err
	}
	total, seen, known := r.memory.count(p.UID)
	if p.DeletionTimestamp != nil {
		return wasmop.Result{}, r.cleanUp(ctx, &p)
	}
	echo, result, err := r.act(ctx, &p, known)
	if err != nil {
		return wasmop.Result{}, err
	}
	before := client.DeepCopy(&p)
	p.Status = Status{ObservedGeneration: p.Generation, Total: total, Seen: seen, Value: p.Spec.Value, Echo: echo}
	if p.Spec.Action == "exact" {
		p.Status.Count = p.Spec.Count
	}
	if p.Status == before.Status {
		return result, nil
	}
	err = r.client.Status().Patch(ctx, &p, client.MergeFrom(before))
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return result, err
}

// child applies the ConfigMap with the Probe's name and this value.
func (r *reconciler) child(ctx context.Context, p *Probe, value string) error {
	before := client.DeepCopy(p)
	if controllerutil.AddFinalizer(p, finalizer) {
		if err := r.client.Patch(ctx, p, client.MergeFromWithOptimisticLock(before)); err != nil {
			return err
		}
	}
	cm := configMap(p, p.Name)
	cm.Data["value"] = value
	if err := controllerutil.SetControllerReference(p, cm); err != nil {
		return err
	}
	return r.client.Patch(ctx, cm, client.Apply, client.ForceOwnership)
}

// cleanUp leaves a ConfigMap with the last value of the deleted Probe, then removes the finalizer.
func (r *reconciler) cleanUp(ctx context.Context, p *Probe) error {
	if !controllerutil.ContainsFinalizer(p, finalizer) {
		return nil
	}
	err := r.client.Create(ctx, configMap(p, p.Name+"-deleted"))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	before := client.DeepCopy(p)
	controllerutil.RemoveFinalizer(p, finalizer)
	err = r.client.Patch(ctx, p, client.MergeFromWithOptimisticLock(before))
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return err
}

func configMap(p *Probe, name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: name},
		Data:       map[string]string{"value": p.Spec.Value},
	}
}
