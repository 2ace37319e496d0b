package corev1

import "github.com/wasmop/wasmop/guest-go/metav1"

// ServiceAccount is an identity for Pods. Tokens of it are created in its subresource "token".
type ServiceAccount struct {
	metav1.TypeMeta              `json:",inline"`
	metav1.ObjectMeta            `json:"metadata"`
	ImagePullSecrets             []LocalReference `json:"imagePullSecrets,omitempty"`
	AutomountServiceAccountToken *bool            `json:"automountServiceAccountToken,omitempty"`
}

// Resource makes *ServiceAccount a metav1.Object.
func (*ServiceAccount) Resource() metav1.Resource {
	return metav1.Resource{Version: "v1", Kind: "ServiceAccount", Plural: "serviceaccounts", Namespaced: true}
}

// ServiceAccountList is a list of ServiceAccounts.
type ServiceAccountList = metav1.List[ServiceAccount]
