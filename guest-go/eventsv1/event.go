package eventsv1

import "github.com/wasmop/wasmop/guest-go/metav1"

// Event says what happened to an object.
type Event struct {
	metav1.TypeMeta     `json:",inline"`
	metav1.ObjectMeta   `json:"metadata"`
	EventTime           metav1.MicroTime `json:"eventTime"`
	Series              *EventSeries     `json:"series,omitempty"`
	ReportingController string           `json:"reportingController,omitempty"`
	ReportingInstance   string           `json:"reportingInstance,omitempty"`
	Action              string           `json:"action,omitempty"`
	Reason              string           `json:"reason,omitempty"`
	Regarding           ObjectReference  `json:"regarding,omitzero"`
	Related             *ObjectReference `json:"related,omitempty"`
	Note                string           `json:"note,omitempty"`
	// Type is Normal or Warning.
	Type string `json:"type,omitempty"`
}

// Resource makes *Event a metav1.Object.
func (*Event) Resource() metav1.Resource {
	return metav1.Resource{Group: "events.k8s.io", Version: "v1", Kind: "Event", Plural: "events", Namespaced: true}
}

// EventList is a list of Events.
type EventList = metav1.List[Event]

// EventSeries counts repetitions of an Event.
type EventSeries struct {
	Count            int32            `json:"count"`
	LastObservedTime metav1.MicroTime `json:"lastObservedTime"`
}

// ObjectReference names an object of any kind.
type ObjectReference struct {
	APIVersion      string     `json:"apiVersion,omitempty"`
	Kind            string     `json:"kind,omitempty"`
	Namespace       string     `json:"namespace,omitempty"`
	Name            string     `json:"name,omitempty"`
	UID             metav1.UID `json:"uid,omitempty"`
	ResourceVersion string     `json:"resourceVersion,omitempty"`
}

// ReferenceTo names an object.
func ReferenceTo(o metav1.Object) ObjectReference {
	r, m := o.Resource(), o.GetObjectMeta()
	return ObjectReference{
		APIVersion: r.APIVersion(), Kind: r.Kind,
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
	}
}
