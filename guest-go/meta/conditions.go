package meta

import "github.com/wasmop/wasmop/guest-go/metav1"

// SetStatusCondition adds a condition or updates the one of the same type. It reports whether anything changed.
// LastTransitionTime changes only with Status: to the given time, or else to the current time.
func SetStatusCondition(conditions *[]metav1.Condition, c metav1.Condition) bool {
	existing := FindStatusCondition(*conditions, c.Type)
	if existing == nil {
		if c.LastTransitionTime.IsZero() {
			c.LastTransitionTime = metav1.Now()
		}
		*conditions = append(*conditions, c)
		return true
	}
	if existing.Status == c.Status {
		c.LastTransitionTime = existing.LastTransitionTime
	} else if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.Now()
	}
	changed := *existing != c
	*existing = c
	return changed
}

// RemoveStatusCondition removes the condition of a type and reports whether it was present.
func RemoveStatusCondition(conditions *[]metav1.Condition, conditionType string) bool {
	for i := range *conditions {
		if (*conditions)[i].Type == conditionType {
			*conditions = append((*conditions)[:i], (*conditions)[i+1:]...)
			return true
		}
	}
	return false
}

// FindStatusCondition returns the condition of a type, or nil if there is none.
func FindStatusCondition(conditions []metav1.Condition, conditionType string) *metav1.Condition {
	for i := range conditions {
		if conditions[i].Type == conditionType {
			return &conditions[i]
		}
	}
	return nil
}

// IsStatusConditionTrue reports whether the condition of a type exists and is True.
func IsStatusConditionTrue(conditions []metav1.Condition, conditionType string) bool {
	c := FindStatusCondition(conditions, conditionType)
	return c != nil && c.Status == metav1.ConditionTrue
}

// IsStatusConditionFalse reports whether the condition of a type exists and is False.
func IsStatusConditionFalse(conditions []metav1.Condition, conditionType string) bool {
	c := FindStatusCondition(conditions, conditionType)
	return c != nil && c.Status == metav1.ConditionFalse
}
