package equality_test

import (
	"fmt"

	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/equality"
)

func ExampleEqualities_DeepEqual() {
	a := corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": "1000m"}}
	b := corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": "1"}, Requests: corev1.ResourceList{}}
	fmt.Println(equality.Semantic.DeepEqual(a, b))
	// Output: true
}
