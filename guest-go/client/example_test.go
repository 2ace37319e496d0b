package client_test

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/appsv1"
	"github.com/wasmop/wasmop/guest-go/autoscalingv1"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

func ExampleReader_get() {
	var config corev1.ConfigMap
	err := client.New().Get(context.Background(), client.ObjectKey{Namespace: "web", Name: "settings"}, &config)
	switch {
	case apierrors.IsNotFound(err):
		fmt.Println("there are no settings")
	case err == nil:
		fmt.Println(config.Data["level"])
	}
}

func ExampleReader_list() {
	var pods metav1.List[corev1.Pod]
	err := client.New().List(context.Background(), &pods, client.InNamespace("web"), client.MatchingLabels{"app": "site"})
	fmt.Println(len(pods.Items), err)
}

// Server-side apply sets only the fields in the object. Other fields and managers are unaffected.
func ExampleWriter_apply() {
	replicas := int32(3)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "site"},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas},
	}
	err := client.New().Patch(context.Background(), deployment, client.Apply, client.ForceOwnership)
	fmt.Println(deployment.Status.AvailableReplicas, err)
}

// A merge patch contains the differences from a copy.
func ExampleMergeFrom() {
	c, ctx := client.New(), context.Background()
	var config corev1.ConfigMap
	if err := c.Get(ctx, client.ObjectKey{Namespace: "web", Name: "settings"}, &config); err != nil {
		return
	}
	before := client.DeepCopy(&config)
	config.Data["level"] = "3"
	fmt.Println(c.Patch(ctx, &config, client.MergeFrom(before)))
}

func ExampleSubResourceClient() {
	c, ctx := client.New(), context.Background()
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "site"}}
	var scale autoscalingv1.Scale
	if err := c.SubResource("scale").Get(ctx, deployment, &scale); err != nil {
		return
	}
	scale.Spec.Replicas++
	fmt.Println(c.SubResource("scale").Update(ctx, deployment, client.WithSubResourceBody(&scale)))
}

// The package must list the host under external-hosts in wasmop.toml, and the owner must grant it.
func ExampleClient_do() {
	response, err := client.New().Do(context.Background(), client.Request{
		Target:      "https://hooks.example.com",
		Method:      "POST",
		Path:        "/deploy",
		ContentType: "application/json",
		Header:      map[string]string{"authorization": "Bearer " + os.Getenv("TOKEN")},
		Body:        []byte(`{"ready": true}`),
	})
	if err != nil {
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Println(response.Status, string(body), err)
}
