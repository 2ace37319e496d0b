package autoscalingv1

import "github.com/wasmop/wasmop/guest-go/metav1"

// Scale is the number of replicas of an object.
type Scale struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ScaleSpec   `json:"spec,omitzero"`
	Status            ScaleStatus `json:"status,omitzero"`
}

// Resource makes *Scale a metav1.Object. It exists only as a subresource.
func (*Scale) Resource() metav1.Resource {
	return metav1.Resource{Group: "autoscaling", Version: "v1", Kind: "Scale", Namespaced: true}
}

// ScaleSpec is how many replicas there should be.
type ScaleSpec struct {
	Replicas int32 `json:"replicas,omitempty"`
}

// ScaleStatus is how many replicas there are.
type ScaleStatus struct {
	Replicas int32 `json:"replicas"`
	// Selector selects the replicas, in kubectl's syntax.
	Selector string `json:"selector,omitempty"`
}
