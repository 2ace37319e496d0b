package authenticationv1

import "github.com/wasmop/wasmop/guest-go/metav1"

// TokenRequest asks for a token of a ServiceAccount.
type TokenRequest struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              TokenRequestSpec   `json:"spec"`
	Status            TokenRequestStatus `json:"status,omitzero"`
}

// Resource makes *TokenRequest a metav1.Object. It exists only as a subresource.
func (*TokenRequest) Resource() metav1.Resource {
	return metav1.Resource{Group: "authentication.k8s.io", Version: "v1", Kind: "TokenRequest", Namespaced: true}
}

// TokenRequestSpec says what the token is for.
type TokenRequestSpec struct {
	// Audiences are the intended recipients of the token. Empty means the API server.
	Audiences         []string `json:"audiences"`
	ExpirationSeconds *int64   `json:"expirationSeconds,omitempty"`
}

// TokenRequestStatus has the token.
type TokenRequestStatus struct {
	Token               string      `json:"token"`
	ExpirationTimestamp metav1.Time `json:"expirationTimestamp"`
}
