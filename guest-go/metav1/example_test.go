package metav1_test

import (
	"encoding/json"
	"fmt"

	"github.com/wasmop/wasmop/guest-go/metav1"
)

// Website is a kind. The method Resource replaces the registration in a scheme.
type Website struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Content string `json:"content"`
	} `json:"spec"`
}

func (*Website) Resource() metav1.Resource {
	return metav1.Resource{Group: "example.com", Version: "v1", Kind: "Website", Plural: "websites", Namespaced: true}
}

func ExampleObject() {
	var site Website
	var object metav1.Object = &site
	err := json.Unmarshal([]byte(`{"metadata": {"name": "hello"}, "spec": {"content": "hi"}}`), object)
	fmt.Println(object.Resource().APIVersion(), site.GetName(), site.Spec.Content, err)
	// Output: example.com/v1 hello hi <nil>
}
