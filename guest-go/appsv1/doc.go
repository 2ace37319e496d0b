// Package appsv1 contains the Deployment of the API group apps with its common fields. Package metav1 explains what
// this means for Update.
package appsv1
