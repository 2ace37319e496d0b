// Package meta works on lists of conditions, in the way of k8s.io/apimachinery/pkg/api/meta.
package meta

import "github.com/wasmop/wasmop/guest-go/metav1"

// SetStatusCondition adds the condition or updates the one of its type, and says whether anything
// changed. LastTransitionTime moves only when Status does: to the given one, or else to now.
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

// RemoveStatusCondition removes the condition of a type and says whether there was one.
func RemoveStatusCondition(conditions *[]metav1.Condition, conditionType string) bool {
	for i := range *conditions {
		if (*conditions)[i].Type == conditionType {
			*conditions = append((*conditions)[:i], (*conditions)[i+1:]...)
			return true
		}
	}
	return false
}

// FindStatusCondition returns the condition of a type, nil if there is none.
func FindStatusCondition(conditions []metav1.Condition, conditionType string) *metav1.Condition {
	for i := range conditions {
		if conditions[i].Type == conditionType {
			return &conditions[i]
		}
	}
	return nil
}

// IsStatusConditionTrue says whether there is a condition of a type and it is True.
func IsStatusConditionTrue(conditions []metav1.Condition, conditionType string) bool {
	c := FindStatusCondition(conditions, conditionType)
	return c != nil && c.Status == metav1.ConditionTrue
}

// IsStatusConditionFalse says whether there is a condition of a type and it is False.
func IsStatusConditionFalse(conditions []metav1.Condition, conditionType string) bool {
	c := FindStatusCondition(conditions, conditionType)
	return c != nil && c.Status == metav1.ConditionFalse
}
