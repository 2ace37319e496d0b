package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/appsv1"
	"github.com/wasmop/wasmop/guest-go/autoscalingv1"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// callsLabel is the label of all objects that the action calls creates. A test removes leftovers.
const callsLabel = "calls"

// calls sends values through every call of the client. It returns "exact", or the first call that changed a value.
func (r *reconciler) calls(ctx context.Context, p *Probe) string {
	typed := valuedCalls(r.client, p.Namespace, p.Name+"-typed", typedValues(), func() *typedProbe { return &typedProbe{} })
	untyped := valuedCalls(r.client, p.Namespace, p.Name+"-untyped", untypedValues(), func() *untypedProbe { return &untypedProbe{} })
	for _, series := range [][]call{typed, untyped, deploymentCalls(r.client, p.Namespace, p.Name)} {
		for _, call := range series {
			if err := call.do(ctx); err != nil {
				return call.name + ": " + err.Error()
			}
		}
	}
	return "exact"
}

// call is a call of the client. Its error also reports values that came back changed.
type call struct {
	name string
	do   func(context.Context) error
}

// valuedCalls are the calls with one type of Probe.
func valuedCalls[T any, P interface {
	*T
	valued
}](c client.Client, namespace, name string, want any, empty func() P) []call {
	const inSpec, inStatus = false, true
	label := client.MatchingLabels{callsLabel: name}
	key := client.ObjectKey{Namespace: namespace, Name: name}
	fresh := func() P {
		o := empty()
		m := o.GetObjectMeta()
		m.Namespace, m.Name, m.Labels = namespace, name, label
		return o
	}
	o := fresh()
	status := c.SubResource("status")
	_, isTyped := any(o).(*typedProbe)
	expect := func(o P, where bool, value string) error {
		was, values := o.holds(where)
		if was != value {
			return fmt.Errorf("value is %q", was)
		}
		return equal(values, want)
	}
	// write makes a call with the values. The response is in o.
	write := func(what string, where bool, do func(context.Context) error) call {
		return call{name + " " + what, func(ctx context.Context) error {
			o.set(where, what)
			if err := do(ctx); err != nil {
				return err
			}
			return expect(o, where, what)
		}}
	}
	// without is o without the values, so that a patch from it contains all of them.
	without := func(where bool) P {
		before := client.DeepCopy[T, P](o)
		before.clear(where)
		return before
	}
	read := func(what string, where bool, value string, do func(context.Context, P) error) call {
		return call{name + " " + what, func(ctx context.Context) error {
			got := fresh()
			if err := do(ctx, got); err != nil {
				return err
			}
			return expect(got, where, value)
		}}
	}
	unknown := func(what string, there bool) call {
		return call{name + " unknown field after " + what, func(ctx context.Context) error {
			var all untypedProbe
			if err := c.Get(ctx, key, &all); err != nil {
				return err
			}
			values, _ := all.Spec["values"].(map[string]any)
			if field, found := values["extra"]; found && there {
				return equal(field, extra())
			} else if found != there {
				return fmt.Errorf("found: %t", found)
			}
			return nil
		}}
	}
	gone := func(what string, do func(context.Context) error) call {
		return call{name + " " + what, func(ctx context.Context) error {
			if err := do(ctx); err != nil {
				return err
			}
			if err := c.Get(ctx, key, fresh()); !apierrors.IsNotFound(err) {
				return fmt.Errorf("still there: %v", err)
			}
			return nil
		}}
	}
	create := write("create", inSpec, func(ctx context.Context) error { return c.Create(ctx, o) })
	return []call{
		// An interrupted reconcile leaves the object behind.
		{name + " delete what is left", func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, fresh())) }},
		create,
		read("get", inSpec, "create", func(ctx context.Context, got P) error { return c.Get(ctx, key, got) }),
		read("list", inSpec, "create", func(ctx context.Context, got P) error {
			var list metav1.List[T]
			if err := c.List(ctx, &list, client.InNamespace(namespace), label); err != nil {
				return err
			}
			if len(list.Items) != 1 {
				return fmt.Errorf("%d items", len(list.Items))
			}
			*got = list.Items[0]
			return nil
		}),
		write("raw merge patch", inSpec, func(ctx context.Context) error {
			// A field that the typed object lacks.
			data, err := json.Marshal(map[string]any{"spec": map[string]any{
				"value": "raw merge patch", "values": map[string]any{"extra": extra()}}})
			if err != nil {
				return err
			}
			return c.Patch(ctx, o, client.RawPatch(client.MergePatchType, data))
		}),
		write("merge patch", inSpec, func(ctx context.Context) error { return c.Patch(ctx, o, client.MergeFrom(without(inSpec))) }),
		write("merge patch with lock", inSpec, func(ctx context.Context) error {
			return c.Patch(ctx, o, client.MergeFromWithOptimisticLock(without(inSpec)))
		}),
		write("JSON patch", inSpec, func(ctx context.Context) error {
			data, err := jsonPatch(want, "JSON patch")
			if err != nil {
				return err
			}
			return c.Patch(ctx, o, client.RawPatch(client.JSONPatchType, data))
		}),
		write("apply", inSpec, func(ctx context.Context) error {
			applied := fresh()
			applied.set(inSpec, "apply")
			err := c.Patch(ctx, applied, client.Apply, client.ForceOwnership)
			o = applied
			return err
		}),
		write("status update", inStatus, func(ctx context.Context) error { return c.Status().Update(ctx, o) }),
		write("status merge patch", inStatus, func(ctx context.Context) error {
			return c.Status().Patch(ctx, o, client.MergeFrom(without(inStatus)))
		}),
		write("subresource update", inStatus, func(ctx context.Context) error { return status.Update(ctx, o) }),
		write("subresource merge patch", inStatus, func(ctx context.Context) error {
			return status.Patch(ctx, o, client.MergeFromWithOptimisticLock(without(inStatus)))
		}),
		read("subresource get", inStatus, "subresource merge patch", func(ctx context.Context, got P) error {
			return status.Get(ctx, o, got)
		}),
		read("spec after that", inSpec, "apply", func(ctx context.Context, got P) error { return status.Get(ctx, o, got) }),
		unknown("patches", true),
		write("update", inSpec, func(ctx context.Context) error { return c.Update(ctx, o) }),
		// A typed object does not send the unknown field.
		unknown("update", !isTyped),
		gone("delete", func(ctx context.Context) error {
			m := o.GetObjectMeta()
			return c.Delete(ctx, o, client.Preconditions{UID: m.UID, ResourceVersion: m.ResourceVersion})
		}),
		{name + " create again", func(ctx context.Context) error {
			o = fresh()
			return create.do(ctx)
		}},
		gone("delete all", func(ctx context.Context) error {
			return c.DeleteAllOf(ctx, o, client.InNamespace(namespace), label)
		}),
	}
}

func equal(got, want any) error {
	found, err := difference(got, want)
	if err != nil {
		return err
	}
	if found != "" {
		return errors.New(found)
	}
	return nil
}

// jsonPatch returns a patch that writes all values, and the value of the call.
func jsonPatch(values any, value string) ([]byte, error) {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	all, err := fields(values)
	if err != nil {
		return nil, err
	}
	operations := []operation{{"add", "/spec/value", value}}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		operations = append(operations, operation{"add", "/spec/values/" + name, all[name]})
	}
	return json.Marshal(operations)
}

// deployed are the values of a Deployment.
type deployed struct {
	Grace          *int64              `json:"grace"`
	Limits         corev1.ResourceList `json:"limits"`
	Ready          metav1.IntOrString  `json:"ready"`
	Live           metav1.IntOrString  `json:"live"`
	MaxSurge       *metav1.IntOrString `json:"maxSurge"`
	MaxUnavailable *metav1.IntOrString `json:"maxUnavailable"`
	Seconds        int32               `json:"seconds"`
}

// deployment returns a paused Deployment, which creates no Pods.
func deployment(namespace, name string, seconds int32) *appsv1.Deployment {
	labels, replicas, grace := map[string]string{callsLabel: name}, int32(0), int64(odd)
	surge, unavailable := metav1.FromString("25%"), metav1.FromInt(1)
	probe := func(port metav1.IntOrString) *corev1.Probe {
		return &corev1.Probe{TCPSocket: &corev1.TCPSocketAction{Port: port}}
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Paused: true, MinReadySeconds: seconds,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{Type: "RollingUpdate",
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{
					Name: "c", Image: "none",
					Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
					Resources:      corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": "1000m", "memory": "1024Mi"}},
					ReadinessProbe: probe(metav1.FromString("http")), LivenessProbe: probe(metav1.FromInt(8080)),
				}}},
			},
		},
	}
}

// valuesOf returns the values of a Deployment.
func valuesOf(d *appsv1.Deployment) deployed {
	v := deployed{Grace: d.Spec.Template.Spec.TerminationGracePeriodSeconds, Seconds: d.Spec.MinReadySeconds}
	if rolling := d.Spec.Strategy.RollingUpdate; rolling != nil {
		v.MaxSurge, v.MaxUnavailable = rolling.MaxSurge, rolling.MaxUnavailable
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		v.Limits = c.Resources.Limits
		if p := c.ReadinessProbe; p != nil && p.TCPSocket != nil {
			v.Ready = p.TCPSocket.Port
		}
		if p := c.LivenessProbe; p != nil && p.TCPSocket != nil {
			v.Live = p.TCPSocket.Port
		}
	}
	return v
}

// deploymentCalls are the calls with a Deployment. Other clients write its status at the same time, so no call sends a
// resource version.
func deploymentCalls(c client.Client, namespace, name string) []call {
	scales := c.SubResource("scale")
	seconds := int32(0)
	// write makes a call with a Deployment, which then has the response.
	write := func(what string, do func(context.Context, *appsv1.Deployment) error) call {
		return call{name + " deployment " + what, func(ctx context.Context) error {
			seconds++
			d := deployment(namespace, name, seconds)
			if err := do(ctx, d); err != nil {
				return err
			}
			return equal(valuesOf(d), valuesOf(deployment(namespace, name, seconds)))
		}}
	}
	read := func(what string, do func(context.Context) (*appsv1.Deployment, error)) call {
		return call{name + " deployment " + what, func(ctx context.Context) error {
			d, err := do(ctx)
			if err != nil {
				return err
			}
			return equal(valuesOf(d), valuesOf(deployment(namespace, name, seconds)))
		}}
	}
	scale := func(what string, replicas int32, do func(context.Context, *appsv1.Deployment, *autoscalingv1.Scale) error) call {
		return call{name + " deployment " + what, func(ctx context.Context) error {
			s := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
			s.Spec.Replicas = replicas
			if err := do(ctx, deployment(namespace, name, seconds), s); err != nil {
				return err
			}
			if s.Spec.Replicas != replicas {
				return fmt.Errorf("replicas is %d, not %d", s.Spec.Replicas, replicas)
			}
			return nil
		}}
	}
	remove := func(ctx context.Context) error {
		return client.IgnoreNotFound(c.Delete(ctx, deployment(namespace, name, 0), client.PropagationPolicy("Background")))
	}
	return []call{
		{name + " deployment delete what is left", remove},
		write("create", func(ctx context.Context, d *appsv1.Deployment) error { return c.Create(ctx, d) }),
		read("get", func(ctx context.Context) (*appsv1.Deployment, error) {
			var d appsv1.Deployment
			return &d, c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &d)
		}),
		read("list", func(ctx context.Context) (*appsv1.Deployment, error) {
			var all appsv1.DeploymentList
			err := c.List(ctx, &all, client.InNamespace(namespace), client.MatchingLabels{callsLabel: name})
			if err == nil && len(all.Items) != 1 {
				err = fmt.Errorf("%d items", len(all.Items))
			}
			if err != nil {
				return nil, err
			}
			return &all.Items[0], nil
		}),
		write("merge patch", func(ctx context.Context, d *appsv1.Deployment) error {
			return c.Patch(ctx, d, client.MergeFrom(&appsv1.Deployment{ObjectMeta: d.ObjectMeta}))
		}),
		write("JSON patch", func(ctx context.Context, d *appsv1.Deployment) error {
			data, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/spec", "value": d.Spec}})
			if err != nil {
				return err
			}
			return c.Patch(ctx, d, client.RawPatch(client.JSONPatchType, data))
		}),
		write("apply", func(ctx context.Context, d *appsv1.Deployment) error {
			return c.Patch(ctx, d, client.Apply, client.ForceOwnership)
		}),
		write("update", func(ctx context.Context, d *appsv1.Deployment) error { return c.Update(ctx, d) }),
		scale("scale update", 3, func(ctx context.Context, d *appsv1.Deployment, s *autoscalingv1.Scale) error {
			return scales.Update(ctx, d, client.WithSubResourceBody(s))
		}),
		scale("scale get", 3, func(ctx context.Context, d *appsv1.Deployment, s *autoscalingv1.Scale) error {
			s.Spec.Replicas = 0
			return scales.Get(ctx, d, s)
		}),
		scale("scale patch", 2, func(ctx context.Context, d *appsv1.Deployment, s *autoscalingv1.Scale) error {
			return scales.Patch(ctx, d, client.MergeFrom(&autoscalingv1.Scale{ObjectMeta: s.ObjectMeta}), client.WithSubResourceBody(s))
		}),
		{name + " deployment delete", remove},
	}
}
