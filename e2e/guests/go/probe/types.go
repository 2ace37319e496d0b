package probe

import "github.com/wasmop/wasmop/guest-go/metav1"

// Probe requests one behaviour; see actions.go.
type Probe struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              Spec   `json:"spec"`
	Status            Status `json:"status,omitzero"`
}

// Resource makes *Probe a metav1.Object.
func (*Probe) Resource() metav1.Resource {
	return metav1.Resource{Group: "e2e.wasmop.dev", Version: "v1", Kind: "Probe", Plural: "probes", Namespaced: true}
}

// Spec is the requested behaviour.
type Spec struct {
	Action  string `json:"action,omitempty"`
	Value   string `json:"value,omitempty"`
	DelayMs int64  `json:"delayMs,omitempty"`
	Count   int64  `json:"count,omitempty"`
}

// Status is the result.
type Status struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Total counts all reconciles since the guest's memory was created, Seen those of this object.
	Total int64  `json:"total,omitempty"`
	Seen  int64  `json:"seen,omitempty"`
	Value string `json:"value,omitempty"`
	// Count is the count of the spec, if the action is exact.
	Count int64 `json:"count,omitempty"`
	// Echo is the observation of the action.
	Echo string `json:"echo,omitempty"`
}

// Namespace is a cluster-scoped kind.
type Namespace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

// Resource makes *Namespace a metav1.Object.
func (*Namespace) Resource() metav1.Resource {
	return metav1.Resource{Version: "v1", Kind: "Namespace", Plural: "namespaces"}
}
