package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ScheduleSpec says when a schedule runs.
type ScheduleSpec struct {
	// Every is the interval between runs. Runs are at multiples of it.
	Every metav1.Duration `json:"every"`

	// HistoryLimit is the number of runs to keep.
	HistoryLimit int `json:"historyLimit"`
}

// ScheduleStatus is what the operator has seen.
type ScheduleStatus struct {
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status

// Schedule makes a ConfigMap for each of its runs.
type Schedule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ScheduleSpec   `json:"spec,omitempty"`
	Status ScheduleStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// ScheduleList is a list of schedules.
type ScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Schedule `json:"items"`
}

func init() { SchemeBuilder.Register(&Schedule{}, &ScheduleList{}) }
