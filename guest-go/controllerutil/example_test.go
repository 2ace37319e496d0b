package controllerutil_test

import (
	"context"
	"fmt"

	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/controllerutil"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

func ExampleAddFinalizer() {
	var config corev1.ConfigMap
	fmt.Println(controllerutil.AddFinalizer(&config, "example.com/cleanup"))
	fmt.Println(controllerutil.AddFinalizer(&config, "example.com/cleanup"))
	fmt.Println(config.Finalizers)
	// Output:
	// true
	// false
	// [example.com/cleanup]
}

func ExampleSetControllerReference() {
	owner := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "site", UID: "1"}}
	child := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "page"}}
	if err := controllerutil.SetControllerReference(owner, child); err != nil {
		fmt.Println(err)
	}
	controller := metav1.GetControllerOf(child)
	fmt.Println(controller.Kind, controller.Name)
	// Output: Service site
}

func ExampleCreateOrPatch() {
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "settings"}}
	result, err := controllerutil.CreateOrPatch(context.Background(), client.New(), config, func() error {
		config.Data = map[string]string{"level": "3"}
		return nil
	})
	fmt.Println(result, err)
}
