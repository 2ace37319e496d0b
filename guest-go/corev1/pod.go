package corev1

import "github.com/wasmop/wasmop/guest-go/metav1"

// Pod is a group of containers on one node.
type Pod struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              PodSpec   `json:"spec,omitzero"`
	Status            PodStatus `json:"status,omitzero"`
}

// Resource makes *Pod a metav1.Object.
func (*Pod) Resource() metav1.Resource {
	return metav1.Resource{Version: "v1", Kind: "Pod", Plural: "pods", Namespaced: true}
}

// PodList is a list of Pods.
type PodList = metav1.List[Pod]

// PodTemplateSpec is what a workload makes its Pods from.
type PodTemplateSpec struct {
	metav1.ObjectMeta `json:"metadata,omitzero"`
	Spec              PodSpec `json:"spec,omitzero"`
}

// PodSpec is what a Pod should be.
type PodSpec struct {
	InitContainers                []Container       `json:"initContainers,omitempty"`
	Containers                    []Container       `json:"containers"`
	Volumes                       []Volume          `json:"volumes,omitempty"`
	RestartPolicy                 string            `json:"restartPolicy,omitempty"`
	TerminationGracePeriodSeconds *int64            `json:"terminationGracePeriodSeconds,omitempty"`
	NodeSelector                  map[string]string `json:"nodeSelector,omitempty"`
	ServiceAccountName            string            `json:"serviceAccountName,omitempty"`
	AutomountServiceAccountToken  *bool             `json:"automountServiceAccountToken,omitempty"`
	NodeName                      string            `json:"nodeName,omitempty"`
	PriorityClassName             string            `json:"priorityClassName,omitempty"`
	ImagePullSecrets              []LocalReference  `json:"imagePullSecrets,omitempty"`
	Tolerations                   []Toleration      `json:"tolerations,omitempty"`
	SecurityContext               *SecurityContext  `json:"securityContext,omitempty"`
}

// Toleration lets a Pod onto nodes with a taint.
type Toleration struct {
	Key               string `json:"key,omitempty"`
	Operator          string `json:"operator,omitempty"`
	Value             string `json:"value,omitempty"`
	Effect            string `json:"effect,omitempty"`
	TolerationSeconds *int64 `json:"tolerationSeconds,omitempty"`
}

// LocalReference names an object in the same namespace.
type LocalReference struct {
	Name string `json:"name,omitempty"`
}

// PodStatus is what a Pod is.
type PodStatus struct {
	// Phase is Pending, Running, Succeeded, Failed or Unknown.
	Phase             string            `json:"phase,omitempty"`
	Reason            string            `json:"reason,omitempty"`
	Message           string            `json:"message,omitempty"`
	PodIP             string            `json:"podIP,omitempty"`
	HostIP            string            `json:"hostIP,omitempty"`
	StartTime         *metav1.Time      `json:"startTime,omitempty"`
	Conditions        []PodCondition    `json:"conditions,omitempty"`
	ContainerStatuses []ContainerStatus `json:"containerStatuses,omitempty"`
}

// PodCondition is one aspect of a Pod's state, such as Ready.
type PodCondition struct {
	Type               string                 `json:"type"`
	Status             metav1.ConditionStatus `json:"status"`
	LastTransitionTime *metav1.Time           `json:"lastTransitionTime,omitempty"`
	Reason             string                 `json:"reason,omitempty"`
	Message            string                 `json:"message,omitempty"`
}

// ContainerStatus is the state of one container.
type ContainerStatus struct {
	Name         string `json:"name"`
	Ready        bool   `json:"ready"`
	RestartCount int32  `json:"restartCount"`
	Image        string `json:"image"`
	ImageID      string `json:"imageID"`
}
