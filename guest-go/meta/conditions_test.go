package meta_test

import (
	"testing"
	"time"

	"github.com/wasmop/wasmop/guest-go/meta"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

func TestTheTransitionTimeChangesOnlyWithTheStatus(t *testing.T) {
	first, second := metav1.NewTime(time.Unix(100, 0)), metav1.NewTime(time.Unix(200, 0))
	var conditions []metav1.Condition
	set := func(status metav1.ConditionStatus, reason string, at metav1.Time) bool {
		return meta.SetStatusCondition(&conditions, metav1.Condition{Type: "Ready", Status: status, Reason: reason, LastTransitionTime: at})
	}
	for _, step := range []struct {
		status  metav1.ConditionStatus
		reason  string
		at      metav1.Time
		changed bool
		moved   metav1.Time
	}{
		{metav1.ConditionFalse, "Starting", first, true, first},
		{metav1.ConditionFalse, "Starting", second, false, first},
		{metav1.ConditionFalse, "Waiting", second, true, first},
		{metav1.ConditionTrue, "Started", second, true, second},
	} {
		if changed := set(step.status, step.reason, step.at); changed != step.changed {
			t.Errorf("%+v: changed %v", step, changed)
		}
		if got := conditions[0]; len(conditions) != 1 || got.Reason != step.reason || got.LastTransitionTime != step.moved {
			t.Errorf("%+v: %+v", step, conditions)
		}
	}
	if !meta.IsStatusConditionTrue(conditions, "Ready") || meta.IsStatusConditionFalse(conditions, "Ready") {
		t.Error("the condition is not true")
	}
	if !meta.RemoveStatusCondition(&conditions, "Ready") || meta.RemoveStatusCondition(&conditions, "Ready") {
		t.Error("the condition was not removed once")
	}
}

func TestTheTransitionTimeDefaultsToNow(t *testing.T) {
	var conditions []metav1.Condition
	meta.SetStatusCondition(&conditions, metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue})
	if conditions[0].LastTransitionTime.IsZero() {
		t.Error("no time")
	}
}
