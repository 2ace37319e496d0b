package policyv1

import "github.com/wasmop/wasmop/guest-go/metav1"

// Eviction asks for a Pod to be deleted, if its disruption budgets allow that. It has the Pod's name.
type Eviction struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	DeleteOptions     *DeleteOptions `json:"deleteOptions,omitempty"`
}

// Resource makes *Eviction a metav1.Object. It exists only as a subresource.
func (*Eviction) Resource() metav1.Resource {
	return metav1.Resource{Group: "policy", Version: "v1", Kind: "Eviction", Namespaced: true}
}

// DeleteOptions says how the Pod is deleted.
type DeleteOptions struct {
	GracePeriodSeconds *int64 `json:"gracePeriodSeconds,omitempty"`
}
