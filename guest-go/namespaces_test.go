package wasmop_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/wasmop/wasmop/guest-go/cache"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/metav1"

	wasmop "github.com/wasmop/wasmop/guest-go"
)

// node is a cluster-scoped kind.
type node struct {
	metav1.TypeMeta
	metav1.ObjectMeta
}

func (*node) Resource() metav1.Resource {
	return metav1.Resource{Version: "v1", Kind: "Node", Plural: "nodes"}
}

func namespaces(names ...string) map[string]cache.Config {
	all := map[string]cache.Config{}
	for _, name := range names {
		all[name] = cache.Config{}
	}
	return all
}

// The namespaces in the specs of the controller, its Secrets, ConfigMaps and Nodes: nil, a name or several names.
func TestNamespacesOfTheManagerRestrictNamespacedKinds(t *testing.T) {
	byObject := func(object client.Object, names ...string) map[client.Object]cache.ByObject {
		return map[client.Object]cache.ByObject{object: {Namespaces: namespaces(names...)}}
	}
	for name, test := range map[string]struct {
		options wasmop.Options
		of      []wasmop.WatchOption // of ConfigMaps
		want    [4]string
	}{
		"all":                {wasmop.Options{}, nil, [4]string{"", "", "", ""}},
		"one":                {wasmop.Options{Namespace: "a"}, nil, [4]string{`"a"`, "", "", `""`}},
		"one by a map":       {wasmop.Options{Cache: cache.Options{DefaultNamespaces: namespaces("a")}}, nil, [4]string{`"a"`, "", "", `""`}},
		"several":            {wasmop.Options{Cache: cache.Options{DefaultNamespaces: namespaces("b", "a")}}, nil, [4]string{`["a","b"]`, "", "", `""`}},
		"all by a map":       {wasmop.Options{Cache: cache.Options{DefaultNamespaces: namespaces("a", cache.AllNamespaces)}}, nil, [4]string{"", "", "", `""`}},
		"of a kind":          {wasmop.Options{Namespace: "a", Cache: cache.Options{ByObject: byObject(&corev1.Secret{}, "x", "y")}}, nil, [4]string{`"a"`, `["x","y"]`, "", `""`}},
		"all of a kind":      {wasmop.Options{Namespace: "a", Cache: cache.Options{ByObject: byObject(&corev1.ConfigMap{}, "")}}, nil, [4]string{`"a"`, "", `""`, `""`}},
		"of a watch":         {wasmop.Options{Namespace: "a"}, []wasmop.WatchOption{wasmop.InNamespace("c", "b")}, [4]string{`"a"`, "", `["c","b"]`, `""`}},
		"of a watch and all": {wasmop.Options{}, []wasmop.WatchOption{wasmop.InNamespace("")}, [4]string{"", "", `""`, ""}},
		"watch before kind":  {wasmop.Options{Cache: cache.Options{ByObject: byObject(&corev1.ConfigMap{}, "x")}}, []wasmop.WatchOption{wasmop.InNamespace("b")}, [4]string{"", "", `"b"`, ""}},
	} {
		h := startWith(t, test.options, func(mgr wasmop.Manager) {
			err := wasmop.NewControllerManagedBy(mgr).Named(strings.ReplaceAll(name, " ", "-")).
				For(&corev1.Secret{}).
				Watches(&corev1.ConfigMap{}, wasmop.EnqueueRequestForObject(), test.of...).
				Watches(&node{}, wasmop.EnqueueRequestForObject()).
				Complete(wasmop.Func(nothing))
			if err != nil {
				t.Fatal(err)
			}
		})
		type said struct{ Namespace, Namespaces json.RawMessage }
		var spec struct {
			said
			Primary said
			Watches []said
		}
		text := <-h.Registered
		if err := json.Unmarshal([]byte(text), &spec); err != nil {
			t.Fatal(err)
		}
		for i, of := range []said{spec.said, spec.Primary, spec.Watches[0], spec.Watches[1]} {
			if got := string(of.Namespace) + string(of.Namespaces); got != test.want[i] {
				t.Errorf("%s, %d: got %s, want %s: %s", name, i, got, test.want[i], text)
			}
		}
	}
}

func TestContradictoryNamespacesAreRefused(t *testing.T) {
	for want, options := range map[string]wasmop.Options{
		"remove one":                    {Namespace: "a", Cache: cache.Options{DefaultNamespaces: namespaces("a")}},
		"Node, which is cluster-scoped": {Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{&node{}: {Namespaces: namespaces("a")}}}},
	} {
		err := wasmop.NewControllerManagedBy(wasmop.NewManager(options)).For(&node{}).Complete(wasmop.Func(nothing))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
