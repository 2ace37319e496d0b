package resource_test

import (
	"fmt"

	"github.com/wasmop/wasmop/guest-go/resource"
)

func ExampleParseQuantity() {
	quantity, err := resource.ParseQuantity("1.5Gi")
	fmt.Println(quantity, err)
	fmt.Println(quantity.Value())
	fmt.Println(resource.MustParse("1000m").Equal(resource.MustParse("1")))
	// Output:
	// 1536Mi <nil>
	// 1610612736
	// true
}
