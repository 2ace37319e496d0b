// Package eventsv1 contains the Event of events.k8s.io/v1, for controllers that read Events. To emit Events, use the
// recorder of Manager.GetEventRecorder.
package eventsv1
