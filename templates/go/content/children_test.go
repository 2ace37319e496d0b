package main

import (
	"maps"
	"testing"

	"github.com/wasmop/wasmop/guest-go/metav1"
)

func TestTheServiceSelectsThePodsOfTheDeployment(t *testing.T) {
	site := &Website{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hello"}}
	if !maps.Equal(serviceFor(site).Spec.Selector, deploymentFor(site).Spec.Template.Labels) {
		t.Error("the Service selects other Pods")
	}
}
