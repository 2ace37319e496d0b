// Package handler contains the event handlers of watches. Its path and its names are those of controller-runtime's
// package handler. The types are aliases of those in package wasmop.
package handler

import "github.com/wasmop/wasmop/guest-go"

// EventHandler determines the objects to reconcile when a watched object changes.
type EventHandler = wasmop.EventHandler

// MapFunc returns the objects to reconcile when a watched object changes.
type MapFunc = wasmop.MapFunc

// EnqueueRequestForObject reconciles the object with the same name as the changed object.
func EnqueueRequestForObject() EventHandler { return wasmop.EnqueueRequestForObject() }

// EnqueueRequestForOwner reconciles all owners of the changed object that have the kind of For.
func EnqueueRequestForOwner() EventHandler { return wasmop.EnqueueRequestForOwner() }

// EnqueueRequestsFromMapFunc reconciles the objects that the function returns.
func EnqueueRequestsFromMapFunc(f MapFunc) EventHandler { return wasmop.EnqueueRequestsFromMapFunc(f) }
