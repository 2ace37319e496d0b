package apierrors_test

import (
	"fmt"

	"github.com/wasmop/wasmop/guest-go/apierrors"
)

func ExampleIsNotFound() {
	body := `{"kind": "Status", "reason": "NotFound", "message": "configmaps \"a\" not found"}`
	err := apierrors.FromResponse(404, []byte(body), "GET /api/v1/namespaces/web/configmaps/a")
	fmt.Println(apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.Code(err))
	// Output: true false 404
}
