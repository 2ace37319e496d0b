// Package controller makes the runs of schedules.
package controller

import (
	"context"
	"fmt"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	batchv1 "example.com/cronjob/api/v1"
)

// Clock tells the time. Tests replace it.
type Clock interface {
	Now() time.Time
}

// RealClock is the time of the system.
type RealClock struct{}

// Now returns the time.
func (RealClock) Now() time.Time { return time.Now() }

// ScheduleReconciler reconciles schedules.
type ScheduleReconciler struct {
	client.Client
	Scheme *runtime.Scheme
	Clock
}

const (
	ownerKey           = ".metadata.controller"
	scheduledTimeLabel = "batch.example.com/scheduled-at"
)

// Reconcile makes the run that is due, removes old runs, and waits for the next run.
func (r *ScheduleReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var schedule batchv1.Schedule
	if err := r.Get(ctx, req.NamespacedName, &schedule); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	every := schedule.Spec.Every.Duration
	if every < time.Second {
		return ctrl.Result{}, fmt.Errorf("the interval %v is too short", every)
	}
	now := r.Now()
	due := now.Truncate(every)
	if err := r.run(ctx, &schedule, due); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.prune(ctx, &schedule); err != nil {
		return ctrl.Result{}, err
	}
	if last := schedule.Status.LastScheduleTime; last == nil || last.Time.Before(due) {
		schedule.Status.LastScheduleTime = &metav1.Time{Time: due}
		if err := r.Status().Update(ctx, &schedule); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{RequeueAfter: due.Add(every).Sub(now)}, nil
}

func (r *ScheduleReconciler) run(ctx context.Context, schedule *batchv1.Schedule, due time.Time) error {
	run := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: schedule.Namespace,
		Name:      fmt.Sprintf("%s-%d", schedule.Name, due.Unix()),
		Labels:    map[string]string{scheduledTimeLabel: fmt.Sprint(due.Unix())},
	}}
	if err := ctrl.SetControllerReference(schedule, run, r.Scheme); err != nil {
		return err
	}
	if err := r.Create(ctx, run); err != nil {
		if errors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}
	log.FromContext(ctx).Info("Made a run", "run", run.Name)
	return nil
}

func (r *ScheduleReconciler) prune(ctx context.Context, schedule *batchv1.Schedule) error {
	var runs corev1.ConfigMapList
	err := r.List(ctx, &runs, client.InNamespace(schedule.Namespace), client.MatchingFields{ownerKey: schedule.Name})
	if err != nil {
		return err
	}
	sort.Slice(runs.Items, func(i, j int) bool {
		return runs.Items[i].Labels[scheduledTimeLabel] > runs.Items[j].Labels[scheduledTimeLabel]
	})
	for i := range runs.Items {
		if i < schedule.Spec.HistoryLimit {
			continue
		}
		if err := r.Delete(ctx, &runs.Items[i]); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// SetupWithManager adds the controller to a manager.
func (r *ScheduleReconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Clock == nil {
		r.Clock = RealClock{}
	}
	owner := func(object client.Object) []string {
		owner := metav1.GetControllerOf(object)
		if owner == nil || owner.Kind != "Schedule" {
			return nil
		}
		return []string{owner.Name}
	}
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.ConfigMap{}, ownerKey, owner); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).For(&batchv1.Schedule{}).Owns(&corev1.ConfigMap{}).Complete(r)
}
