package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CacheSpec is the wanted state of a cache.
type CacheSpec struct {
	// Size is the number of its replicas.
	Size int32 `json:"size"`
}

//+kubebuilder:object:root=true

// Cache becomes a ConfigMap with its settings.
type Cache struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec CacheSpec `json:"spec,omitempty"`
}

//+kubebuilder:object:root=true

// CacheList is a list of caches.
type CacheList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Cache `json:"items"`
}

func init() { SchemeBuilder.Register(&Cache{}, &CacheList{}) }
