// Package controllerutil has helpers that most reconcilers need: owner references, finalizers and create-or-patch. Its
// API follows controller-runtime.
package controllerutil
