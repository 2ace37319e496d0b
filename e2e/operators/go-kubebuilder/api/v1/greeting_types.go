package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// GreetingSpec is the text of a greeting.
type GreetingSpec struct {
	Text string `json:"text"`

	// RefreshSeconds is the interval at which the greeting is written again. 0 means never.
	// +optional
	RefreshSeconds int64 `json:"refreshSeconds,omitempty"`
}

// GreetingStatus counts what the operator did.
type GreetingStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Refreshes is the number of reconciles since the greeting was created.
	// +optional
	Refreshes int64 `json:"refreshes,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// +kubebuilder:object:root=true
// +kubebuilder:subresource:status

// Greeting becomes a ConfigMap with its text.
type Greeting struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   GreetingSpec   `json:"spec,omitempty"`
	Status GreetingStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// GreetingList is a list of greetings.
type GreetingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Greeting `json:"items"`
}

func init() { SchemeBuilder.Register(&Greeting{}, &GreetingList{}) }
