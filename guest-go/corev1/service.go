package corev1

import "github.com/wasmop/wasmop/guest-go/metav1"

// Service gives a set of Pods one address.
type Service struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ServiceSpec   `json:"spec,omitzero"`
	Status            ServiceStatus `json:"status,omitzero"`
}

// Resource makes *Service a metav1.Object.
func (*Service) Resource() metav1.Resource {
	return metav1.Resource{Version: "v1", Kind: "Service", Plural: "services", Namespaced: true}
}

// ServiceList is a list of Services.
type ServiceList = metav1.List[Service]

// ServiceSpec is what a Service should be.
type ServiceSpec struct {
	// Type is ClusterIP (the default), NodePort, LoadBalancer or ExternalName.
	Type                     string            `json:"type,omitempty"`
	Selector                 map[string]string `json:"selector,omitempty"`
	Ports                    []ServicePort     `json:"ports,omitempty"`
	ClusterIP                string            `json:"clusterIP,omitempty"`
	ExternalName             string            `json:"externalName,omitempty"`
	SessionAffinity          string            `json:"sessionAffinity,omitempty"`
	PublishNotReadyAddresses bool              `json:"publishNotReadyAddresses,omitempty"`
}

// ServicePort is a port of a Service.
type ServicePort struct {
	Name string `json:"name,omitempty"`
	// Protocol is TCP (the default), UDP or SCTP.
	Protocol   string             `json:"protocol,omitempty"`
	Port       int32              `json:"port"`
	TargetPort metav1.IntOrString `json:"targetPort,omitzero"`
	NodePort   int32              `json:"nodePort,omitempty"`
}

// ServiceStatus is what a Service is.
type ServiceStatus struct {
	LoadBalancer LoadBalancerStatus `json:"loadBalancer,omitzero"`
	Conditions   []metav1.Condition `json:"conditions,omitempty"`
}

// LoadBalancerStatus says where a load balancer can be reached.
type LoadBalancerStatus struct {
	Ingress []LoadBalancerIngress `json:"ingress,omitempty"`
}

// LoadBalancerIngress is one address of a load balancer.
type LoadBalancerIngress struct {
	IP       string `json:"ip,omitempty"`
	Hostname string `json:"hostname,omitempty"`
}
