package wasmop_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wasmop/wasmop/guest-go"
	"github.com/wasmop/wasmop/guest-go/appsv1"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/fakehost"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

type website struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

func (*website) Resource() metav1.Resource {
	return metav1.Resource{Group: "example.com", Version: "v1", Kind: "Website", Plural: "websites", Namespaced: true}
}

func nothing(context.Context, wasmop.Request) (wasmop.Result, error) { return wasmop.Result{}, nil }

// start starts a manager for the duration of the test. add configures it.
func start(t *testing.T, add func(wasmop.Manager)) *fakehost.Host {
	t.Helper()
	return startWith(t, wasmop.Options{Namespace: "team"}, add)
}

func startWith(t *testing.T, options wasmop.Options, add func(wasmop.Manager)) *fakehost.Host {
	t.Helper()
	h := fakehost.New(t)
	mgr := wasmop.NewManager(options)
	add(mgr)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestAControllerIsRegisteredAsBuilt(t *testing.T) {
	h := start(t, func(mgr wasmop.Manager) {
		err := wasmop.NewControllerManagedBy(mgr).
			For(&website{}, wasmop.WithPredicates(wasmop.GenerationChangedPredicate{}, wasmop.LabelSelectorPredicate("a=b"), wasmop.LabelSelectorPredicate("c"), wasmop.CELPredicate("a"), wasmop.CELPredicate("b"))).
			Owns(&appsv1.Deployment{}).
			Owns(&corev1.Service{}, wasmop.MatchEveryOwner).
			Watches(&corev1.Secret{}, wasmop.EnqueueRequestForObject(), wasmop.InNamespace("sys")).
			Watches(&corev1.ConfigMap{}, wasmop.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []wasmop.Request { return nil }), wasmop.InNamespace("")).
			WithOptions(wasmop.ControllerOptions{MaxConcurrentReconciles: 8}).
			Complete(wasmop.Func(nothing))
		if err != nil {
			t.Fatal(err)
		}
	})
	want := `{"name":"website","namespace":"team","maxConcurrentReconciles":8,` +
		`"primary":{"group":"example.com","version":"v1","kind":"Website","plural":"websites","relation":"own","labelSelector":"a=b,c","generationChanged":true,"predicate":"(a) \u0026\u0026 (b)"},` +
		`"watches":[{"group":"apps","version":"v1","kind":"Deployment","plural":"deployments","relation":"controller"},` +
		`{"group":"","version":"v1","kind":"Service","plural":"services","relation":"owner"},` +
		`{"group":"","version":"v1","kind":"Secret","plural":"secrets","namespace":"sys","relation":"own"},` +
		`{"group":"","version":"v1","kind":"ConfigMap","plural":"configmaps","namespace":"","relation":"map"}]}`
	if got := <-h.Registered; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestInvalidControllersAreRefused(t *testing.T) {
	mgr := wasmop.NewManager(wasmop.Options{})
	if err := mgr.Start(context.Background()); err == nil {
		t.Error("a manager without controllers started")
	}
	mgr = wasmop.NewManager(wasmop.Options{})
	build := func() *wasmop.Builder { return wasmop.NewControllerManagedBy(mgr) }
	if err := build().For(&website{}).Complete(wasmop.Func(nothing)); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"without For":   build().Complete(wasmop.Func(nothing)),
		"For twice":     build().Named("x").For(&website{}).For(&website{}).Complete(wasmop.Func(nothing)),
		"no reconciler": build().Named("y").For(&website{}).Complete(nil),
		"the same name": build().For(&website{}).Complete(wasmop.Func(nothing)),
		"no map func":   build().Named("w").For(&website{}).Watches(&website{}, wasmop.EnqueueRequestsFromMapFunc(nil)).Complete(wasmop.Func(nothing)),
		"no such kind":  build().Named("z").For(&unfinished{}).Complete(wasmop.Func(nothing)),
	} {
		if err == nil {
			t.Error(name)
		}
	}
}

type unfinished struct{ website }

func (*unfinished) Resource() metav1.Resource { return metav1.Resource{} }

func TestResultsBecomeOutcomes(t *testing.T) {
	failure := errors.New("no")
	results := map[string]struct {
		result wasmop.Result
		err    error
		want   abi.Outcome
	}{
		"done":       {},
		"after":      {result: wasmop.Result{RequeueAfter: time.Hour}, want: abi.Outcome{RequeueAfter: time.Hour}},
		"error":      {err: failure, want: abi.Outcome{Err: failure}},
		"error wins": {result: wasmop.Result{RequeueAfter: time.Hour}, err: failure, want: abi.Outcome{Err: failure}},
		"terminal":   {err: fmt.Errorf("wrapped: %w", wasmop.TerminalError(failure))},
	}
	h := start(t, func(mgr wasmop.Manager) {
		err := wasmop.NewControllerManagedBy(mgr).For(&website{}).
			Complete(wasmop.Func(func(ctx context.Context, req wasmop.Request) (wasmop.Result, error) {
				if req.Namespace != "ns" {
					t.Error(req)
				}
				return results[req.Name].result, results[req.Name].err
			}))
		if err != nil {
			t.Fatal(err)
		}
	})
	<-h.Registered
	for name, test := range results {
		h.Send(abi.ReconcileEvent(1, 0, "ns/"+name))
		if got := <-h.Finished; got.Outcome != test.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// mapping starts a manager that maps a ConfigMap to the site in its data and to the Website "global".
func mapping(t *testing.T, names func(*corev1.ConfigMap) []string) *fakehost.Host {
	t.Helper()
	h := start(t, func(mgr wasmop.Manager) {
		err := wasmop.NewControllerManagedBy(mgr).For(&website{}).Owns(&corev1.Service{}).
			Watches(&corev1.ConfigMap{}, wasmop.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) (requests []wasmop.Request) {
				for _, name := range names(o.(*corev1.ConfigMap)) {
					requests = append(requests, wasmop.Request{NamespacedName: wasmop.NamespacedName{Namespace: o.GetNamespace(), Name: name}})
				}
				return requests
			})).Complete(wasmop.Func(nothing))
		if err != nil {
			t.Fatal(err)
		}
	})
	<-h.Registered
	return h
}

func TestAMapFuncReconcilesItsPreviousAndNewResult(t *testing.T) {
	h := mapping(t, func(cm *corev1.ConfigMap) []string { return strings.Fields(cm.Data["sites"]) })
	object := func(name, sites string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"a","name":"` + name + `"},"data":{"sites":"` + sites + `"}}`
	}
	const partial = `{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"namespace":"a","name":"c"}}`
	for i, step := range []struct {
		event func(uint64, uint32, uint32, string) abi.Event
		data  string
		want  string
	}{
		{abi.MapEvent, object("c", "one"), "a/one"},
		{abi.MapEvent, object("c", "one"), "a/one"},
		{abi.MapEvent, object("c", "two one"), "a/one\na/two"},
		{abi.MapEvent, object("other", "three"), "a/three"},
		{abi.MapEvent, object("c", "two"), "a/one\na/two"},
		{abi.MapEvent, object("c", ""), "a/two"},
		{abi.MapEvent, object("c", ""), ""},
		{abi.MapEvent, object("c", "four"), "a/four"},
		{abi.MapEvent, `{"metadata":{"namespace":"a","name":"c"},"data":5}`, "a/four"}, // has another type
		{abi.GoneEvent, partial, "a/four"},
		{abi.GoneEvent, partial, ""},
		{abi.MapEvent, object("c", "five"), "a/five"},
		{abi.GoneEvent, object("c", "six"), "a/five\na/six"},
		{abi.MapEvent, object("c", "seven"), "a/seven"},
		{abi.MapEvent, "not JSON", ""},
	} {
		h.Send(step.event(uint64(i+1), 0, 1, step.data))
		if got := <-h.Keys; got != step.want {
			t.Errorf("step %d: got %q, want %q", i, got, step.want)
		}
	}
}

func TestAPanicInAMapFuncFailsOnlyItsTask(t *testing.T) {
	h := mapping(t, func(cm *corev1.ConfigMap) []string {
		switch cm.Name {
		case "panic":
			panic("oh")
		case "goexit":
			runtime.Goexit()
		}
		return []string{"site"}
	})
	object := func(name string) string { return `{"metadata":{"namespace":"a","name":"` + name + `"}}` }
	for i, test := range []struct{ name, err string }{
		{"panic", "panic: oh"},
		{"goexit", "the map function ended its goroutine"},
		{"fine", ""},
	} {
		h.Send(abi.MapEvent(uint64(i+1), 0, 1, object(test.name)))
		select {
		case keys := <-h.Keys:
			if test.err != "" || keys != "a/site" {
				t.Errorf("%s: mapped to %q", test.name, keys)
			}
		case got := <-h.Finished:
			if got.Task != uint64(i+1) || got.Err == nil || got.Err.Error() != test.err {
				t.Errorf("%s: %+v", test.name, got)
			}
		}
	}
}

func TestAnOvertakenMapFuncDoesNotUndoTheLaterChange(t *testing.T) {
	begun, slow := make(chan struct{}), make(chan struct{})
	h := mapping(t, func(cm *corev1.ConfigMap) []string {
		if cm.Data["wait"] != "" {
			begun <- struct{}{}
			<-slow
		}
		return strings.Fields(cm.Data["sites"])
	})
	object := func(data string) string { return `{"metadata":{"namespace":"a","name":"c"},"data":` + data + `}` }
	for _, later := range []struct{ event, sites, want string }{
		{"map", `{"sites":"late"}`, "a/late"},
		{"map", `{}`, ""},
		{"gone", `{"sites":"late"}`, ""},
	} {
		h.Send(abi.MapEvent(1, 0, 1, object(`{"sites":"early","wait":"1"}`)))
		<-begun
		switch later.event {
		case "map":
			h.Send(abi.MapEvent(2, 0, 1, object(later.sites)))
		default:
			h.Send(abi.GoneEvent(2, 0, 1, object(later.sites)))
		}
		<-h.Keys
		slow <- struct{}{}
		if got := <-h.Keys; !strings.Contains(got, "a/early") {
			t.Errorf("%+v: the earlier change had %q reconciled", later, got)
		}
		h.Send(abi.MapEvent(3, 0, 1, object(`{}`)))
		if got := <-h.Keys; got != later.want {
			t.Errorf("%+v: got %q", later, got)
		}
	}
}

func TestTwoManagersHaveTheirOwnControllers(t *testing.T) {
	h := fakehost.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	managers := make([]wasmop.Manager, 2)
	for i, name := range []string{"first", "second"} {
		mgr := wasmop.NewManager(wasmop.Options{Namespace: name})
		managers[i] = mgr
		err := wasmop.NewControllerManagedBy(mgr).Named(name).For(&website{}).
			Complete(wasmop.Func(func(context.Context, wasmop.Request) (wasmop.Result, error) {
				return wasmop.Result{}, errors.New(name)
			}))
		if err != nil {
			t.Fatal(err)
		}
		go mgr.Start(ctx)
		if spec := <-h.Registered; !strings.Contains(spec, `"name":"`+name+`","namespace":"`+name+`"`) {
			t.Error(spec)
		}
	}
	for i, name := range []string{"first", "second"} {
		h.Send(abi.ReconcileEvent(1, uint32(i), "k"))
		if got := <-h.Finished; got.Err == nil || got.Err.Error() != name {
			t.Errorf("%s: %+v", name, got)
		}
	}
	third := wasmop.NewManager(wasmop.Options{})
	if err := wasmop.NewControllerManagedBy(third).Named("first").For(&website{}).Complete(wasmop.Func(nothing)); err != nil {
		t.Fatal(err)
	}
	if err := third.Start(ctx); err == nil || !strings.Contains(err.Error(), `"first"`) {
		t.Error("a controller with a name that is taken was registered:", err)
	}
}

func TestARunnableThatFailsEndsTheManager(t *testing.T) {
	fakehost.New(t)
	mgr := wasmop.NewManager(wasmop.Options{})
	failure := errors.New("no")
	if err := mgr.Add(wasmop.RunnableFunc(func(context.Context) error { return failure })); err != nil {
		t.Fatal(err)
	}
	if err := mgr.Start(context.Background()); err != failure {
		t.Error(err)
	}
}

func TestAttributesBecomeJSONFields(t *testing.T) {
	h := fakehost.New(t)
	log := slog.New(wasmop.NewLogHandler(slog.LevelInfo))
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	for _, test := range []struct {
		write func()
		want  string
	}{
		{func() { log.Info("m") }, ""},
		{func() { log.Info("m", "s", "a\"\n", "n", 1, "b", true, "d", time.Second, "nil", nil) }, `{"s":"a\"\n","n":1,"b":true,"d":"1s","nil":null}`},
		{func() { log.Info("m", "f", 1.5, "nan", math.NaN(), "inf", math.Inf(1)) }, `{"f":1.5,"nan":"NaN","inf":"+Inf"}`},
		{func() { log.Info("m", "err", errors.New("e"), "obj", cm, "chan", []int{1}) }, `{"err":"e","obj":"a/b","chan":"[1]"}`},
		{func() { log.With("a", 1).WithGroup("g").With("b", 2).Info("m", "c", 3) }, `{"a":1,"g":{"b":2,"c":3}}`},
		{func() { log.With("a", 1).WithGroup("g").Info("m") }, `{"a":1}`},
		{func() { log.Info("m", slog.Group("g", "a", 1, slog.Group("h", "b", 2)), slog.Group("empty")) }, `{"g":{"a":1,"h":{"b":2}}}`},
	} {
		test.write()
		line := <-h.Logged
		if line.Fields != test.want || line.Level != abi.Info || line.Message != "m" {
			t.Errorf("got  %+v\nwant %s", line, test.want)
		}
		if line.Fields != "" && !json.Valid([]byte(line.Fields)) {
			t.Error("not JSON:", line.Fields)
		}
	}
	log.Debug("below the level")
	log.Error("e")
	if line := <-h.Logged; line.Level != abi.Error {
		t.Errorf("%+v", line)
	}
}

func ExampleNewControllerManagedBy() {
	mgr := wasmop.NewManager(wasmop.Options{})
	err := wasmop.NewControllerManagedBy(mgr).
		For(&corev1.ConfigMap{}).
		Owns(&corev1.Secret{}).
		WithOptions(wasmop.ControllerOptions{MaxConcurrentReconciles: 4}).
		Complete(wasmop.Func(func(ctx context.Context, req wasmop.Request) (wasmop.Result, error) {
			var cm corev1.ConfigMap
			if err := mgr.GetClient().Get(ctx, req.NamespacedName, &cm); err != nil {
				return wasmop.Result{}, client.IgnoreNotFound(err)
			}
			return wasmop.Result{RequeueAfter: time.Hour}, nil
		}))
	fmt.Println(err)
	// Output: <nil>
}
