package meta_test

import (
	"fmt"

	"github.com/wasmop/wasmop/guest-go/meta"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

func ExampleSetStatusCondition() {
	var conditions []metav1.Condition
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Available"}
	fmt.Println(meta.SetStatusCondition(&conditions, ready))
	fmt.Println(meta.SetStatusCondition(&conditions, ready))
	fmt.Println(meta.IsStatusConditionTrue(conditions, "Ready"))
	// Output:
	// true
	// false
	// true
}
