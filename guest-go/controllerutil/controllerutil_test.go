package controllerutil_test

import (
	"context"
	"errors"
	"testing"

	"github.com/wasmop/wasmop/guest-go/appsv1"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/controllerutil"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/fakehost"
	"github.com/wasmop/wasmop/guest-go/metav1"
	"github.com/wasmop/wasmop/guest-go/resource"
)

func owner(uid string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "d" + uid, UID: uid}}
}

func TestAnObjectHasOneController(t *testing.T) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "c"}}
	for range 2 { // the second call changes nothing
		if err := controllerutil.SetControllerReference(owner("1"), cm); err != nil {
			t.Fatal(err)
		}
	}
	if c := metav1.GetControllerOf(cm); len(cm.OwnerReferences) != 1 || c.UID != "1" || c.APIVersion != "apps/v1" || !*c.BlockOwnerDeletion {
		t.Errorf("%+v", cm.OwnerReferences)
	}
	var owned *controllerutil.AlreadyOwnedError
	if err := controllerutil.SetControllerReference(owner("2"), cm); !errors.As(err, &owned) {
		t.Error(err)
	}
	if err := controllerutil.SetOwnerReference(owner("2"), cm); err != nil || len(cm.OwnerReferences) != 2 {
		t.Error(err, cm.OwnerReferences)
	}
}

func TestAnOwnerMustExistInTheSameNamespaceOrBeClusterScoped(t *testing.T) {
	elsewhere := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "c"}}
	if err := controllerutil.SetControllerReference(owner("1"), elsewhere); err == nil {
		t.Error("an owner in another namespace was set")
	}
	here := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "c"}}
	if err := controllerutil.SetControllerReference(owner(""), here); err == nil {
		t.Error("an owner without UID was set")
	}
}

func TestFinalizersAreAddedAndRemovedOnce(t *testing.T) {
	shared := []string{"other"}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Finalizers: shared}}
	if !controllerutil.AddFinalizer(cm, "x") || controllerutil.AddFinalizer(cm, "x") || !controllerutil.ContainsFinalizer(cm, "x") {
		t.Error("add", cm.Finalizers)
	}
	if !controllerutil.RemoveFinalizer(cm, "other") || controllerutil.RemoveFinalizer(cm, "other") || len(cm.Finalizers) != 1 {
		t.Error("remove", cm.Finalizers)
	}
	if shared[0] != "other" {
		t.Error("a list that was shared has been changed")
	}
}

func TestCreateOrPatchSendsOnlyWhatChanged(t *testing.T) {
	const stored = `{"metadata":{"namespace":"a","name":"c"},"data":{"k":"v"}}`
	notFound := abi.Response{Status: 404, Body: []byte(`{"code":404,"reason":"NotFound","message":"x"}`)}
	for name, test := range map[string]struct {
		get    abi.Response
		mutate func(*corev1.ConfigMap)
		result controllerutil.OperationResult
		sent   string
	}{
		"missing":   {notFound, func(*corev1.ConfigMap) {}, controllerutil.OperationResultCreated, "POST"},
		"unchanged": {abi.Response{Status: 200, Body: []byte(stored)}, func(*corev1.ConfigMap) {}, controllerutil.OperationResultNone, ""},
		"changed": {abi.Response{Status: 200, Body: []byte(stored)}, func(cm *corev1.ConfigMap) { cm.Data["k"] = "w" },
			controllerutil.OperationResultUpdated, `PATCH{"data":{"k":"w"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			h := fakehost.New(t)
			sent := ""
			h.Answer = func(r abi.Request) abi.Response {
				if r.Method == "GET" {
					return test.get
				}
				if sent = r.Method; r.Method == "PATCH" {
					sent += string(r.Body)
				}
				return abi.Response{Status: 200, Body: []byte(stored)}
			}
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "c"}}
			result, err := controllerutil.CreateOrPatch(context.Background(), client.New(), cm, func() error { test.mutate(cm); return nil })
			if err != nil || result != test.result || sent != test.sent {
				t.Error(result, err, sent)
			}
		})
	}
}

func TestCreateOrPatchIgnoresEqualQuantities(t *testing.T) {
	const stored = `{"metadata":{"namespace":"a","name":"c"},"spec":{"selector":null,"template":{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1","memory":"1Gi"}}}]}}}}`
	for _, test := range []struct {
		cpu, memory resource.Quantity
		want        controllerutil.OperationResult
	}{
		{"1000m", "1024Mi", controllerutil.OperationResultNone},
		{"1", "1073741824", controllerutil.OperationResultNone},
		{"1001m", "1Gi", controllerutil.OperationResultUpdated},
	} {
		h := fakehost.New(t)
		h.Answer = func(abi.Request) abi.Response { return abi.Response{Status: 200, Body: []byte(stored)} }
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "c"}}
		result, err := controllerutil.CreateOrPatch(context.Background(), client.New(), d, func() error {
			d.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": test.cpu, "memory": test.memory}
			return nil
		})
		if err != nil || result != test.want {
			t.Error(test, result, err)
		}
	}
}
