// Package corev1 contains the kinds of the core API group that controllers own most often, with their common fields.
// Package metav1 explains what this means for Update. Define your own struct for other kinds or fields.
package corev1
