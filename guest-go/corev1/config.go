package corev1

import "github.com/wasmop/wasmop/guest-go/metav1"

// ConfigMap holds configuration for Pods to read.
type ConfigMap struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Immutable         *bool             `json:"immutable,omitempty"`
	Data              map[string]string `json:"data,omitempty"`
	BinaryData        map[string][]byte `json:"binaryData,omitempty"`
}

// Resource makes *ConfigMap a metav1.Object.
func (*ConfigMap) Resource() metav1.Resource {
	return metav1.Resource{Version: "v1", Kind: "ConfigMap", Plural: "configmaps", Namespaced: true}
}

// ConfigMapList is a list of ConfigMaps.
type ConfigMapList = metav1.List[ConfigMap]

// Secret holds secret data; the API server encodes Data in base64, as encoding/json does.
type Secret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Immutable         *bool             `json:"immutable,omitempty"`
	Data              map[string][]byte `json:"data,omitempty"`
	// StringData is write-only: the API server merges it into Data.
	StringData map[string]string `json:"stringData,omitempty"`
	Type       string            `json:"type,omitempty"`
}

// Resource makes *Secret a metav1.Object.
func (*Secret) Resource() metav1.Resource {
	return metav1.Resource{Version: "v1", Kind: "Secret", Plural: "secrets", Namespaced: true}
}

// SecretList is a list of Secrets.
type SecretList = metav1.List[Secret]
