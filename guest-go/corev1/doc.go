// Package corev1 has the kinds of the core API group that controllers own most often, with their
// common fields. See package metav1 for what that means for Update; define a struct of your own
// for a kind or a field that is not here.
package corev1
