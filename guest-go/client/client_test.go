package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/autoscalingv1"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/fakehost"
	"github.com/wasmop/wasmop/guest-go/metav1"
	"github.com/wasmop/wasmop/guest-go/policyv1"
)

// node is a cluster-scoped kind.
type node struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

func (*node) Resource() metav1.Resource {
	return metav1.Resource{Group: "example.com", Version: "v2", Kind: "Node", Plural: "nodes"}
}

func configMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}, Data: map[string]string{"k": "v"}}
}

func ok(body string) func(abi.Request) abi.Response {
	return func(abi.Request) abi.Response { return abi.Response{Status: 200, Body: []byte(body)} }
}

func TestRequestsHaveTheMethodPathAndContentTypeOfTheirVerb(t *testing.T) {
	ctx, c := context.Background(), client.New()
	key := client.ObjectKey{Namespace: "a", Name: "b"}
	for name, test := range map[string]struct {
		do   func() error
		want string // method, path, content type
	}{
		"get":            {func() error { return c.Get(ctx, key, configMap()) }, "GET /api/v1/namespaces/a/configmaps/b "},
		"get from cache": {func() error { return c.Get(ctx, key, configMap(), client.FromCache) }, "GET /api/v1/namespaces/a/configmaps/b?resourceVersion=0 "},
		"cluster-scoped": {func() error { return c.Get(ctx, key, &node{}) }, "GET /apis/example.com/v2/nodes/b "},
		"create":         {func() error { return c.Create(ctx, configMap()) }, "POST /api/v1/namespaces/a/configmaps application/json"},
		"update":         {func() error { return c.Update(ctx, configMap()) }, "PUT /api/v1/namespaces/a/configmaps/b application/json"},
		"status": {func() error { return c.Status().Update(ctx, configMap()) },
			"PUT /api/v1/namespaces/a/configmaps/b/status application/json"},
		"apply": {func() error {
			return c.Patch(ctx, configMap(), client.Apply, client.FieldOwner("me"), client.ForceOwnership)
		}, "PATCH /api/v1/namespaces/a/configmaps/b?fieldManager=me&force=true application/apply-patch+yaml"},
		"merge": {func() error { return c.Patch(ctx, configMap(), client.MergeFrom(configMap())) },
			"PATCH /api/v1/namespaces/a/configmaps/b application/merge-patch+json"},
		"raw": {func() error {
			return c.SubResource("scale").Patch(ctx, configMap(), client.RawPatch(client.JSONPatchType, []byte("[]")))
		},
			"PATCH /api/v1/namespaces/a/configmaps/b/scale application/json-patch+json"},
		"scale": {func() error { return c.SubResource("scale").Get(ctx, configMap(), &autoscalingv1.Scale{}) },
			"GET /api/v1/namespaces/a/configmaps/b/scale "},
		"scale update": {func() error {
			return c.SubResource("scale").Update(ctx, configMap(), client.WithSubResourceBody(&autoscalingv1.Scale{}))
		}, "PUT /api/v1/namespaces/a/configmaps/b/scale application/json"},
		"scale patch": {func() error {
			scale := &autoscalingv1.Scale{}
			return c.SubResource("scale").Patch(ctx, configMap(), client.MergeFrom(scale), client.WithSubResourceBody(scale))
		}, "PATCH /api/v1/namespaces/a/configmaps/b/scale application/merge-patch+json"},
		"evict": {func() error { return c.SubResource("eviction").Create(ctx, configMap(), &policyv1.Eviction{}) },
			"POST /api/v1/namespaces/a/configmaps/b/eviction application/json"},
		"status create": {func() error { return c.Status().Create(ctx, configMap(), configMap()) },
			"POST /api/v1/namespaces/a/configmaps/b/status application/json"},
		"delete": {func() error { return c.Delete(ctx, configMap()) }, "DELETE /api/v1/namespaces/a/configmaps/b "},
		"delete with options": {func() error { return c.Delete(ctx, configMap(), client.PropagationPolicy("Foreground")) },
			"DELETE /api/v1/namespaces/a/configmaps/b application/json"},
		"delete all": {func() error {
			return c.DeleteAllOf(ctx, &corev1.ConfigMap{}, client.InNamespace("a"), client.MatchingLabels{"y": "2", "x": "1"})
		}, "DELETE /api/v1/namespaces/a/configmaps?labelSelector=x%3D1%2Cy%3D2 "},
	} {
		t.Run(name, func(t *testing.T) {
			h := fakehost.New(t)
			h.Answer = ok(`{"metadata":{"name":"b"}}`)
			if err := test.do(); err != nil {
				t.Fatal(err)
			}
			r := <-h.Called
			contentType := ""
			for line := range strings.SplitSeq(r.Headers, "\n") {
				if v, found := strings.CutPrefix(line, "content-type: "); found {
					contentType = v
				}
			}
			if got := r.Method + " " + r.Path + " " + contentType; got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestInvalidRequestsAreNotSent(t *testing.T) {
	h := fakehost.New(t)
	ctx, c := context.Background(), client.New()
	for name, err := range map[string]error{
		"no name":      c.Get(ctx, client.ObjectKey{Namespace: "a"}, configMap()),
		"no namespace": c.Get(ctx, client.ObjectKey{Name: "b"}, configMap()),
		"create":       c.Create(ctx, &corev1.ConfigMap{}),
		"list":         c.List(ctx, &metav1.List[struct{}]{}),
	} {
		if err == nil {
			t.Error(name)
		}
	}
	if len(h.Called) != 0 {
		t.Error("a request was sent")
	}
}

func TestAResponseReplacesTheObject(t *testing.T) {
	h := fakehost.New(t)
	h.Answer = ok(`{"metadata":{"name":"b","resourceVersion":"2"},"data":{"new":"1"}}`)
	cm := configMap()
	cm.Labels = map[string]string{"old": "1"}
	if err := client.New().Get(context.Background(), client.ObjectKeyFromObject(cm), cm); err != nil {
		t.Fatal(err)
	}
	if cm.ResourceVersion != "2" || len(cm.Data) != 1 || cm.Labels != nil {
		t.Errorf("%+v", cm)
	}
}

func TestErrorsAreDistinguishedByTheirReason(t *testing.T) {
	h := fakehost.New(t)
	for body, is := range map[string]func(error) bool{
		`{"kind":"Status","code":404,"reason":"NotFound","message":"x"}`:      apierrors.IsNotFound,
		`{"kind":"Status","code":409,"reason":"Conflict","message":"x"}`:      apierrors.IsConflict,
		`{"kind":"Status","code":409,"reason":"AlreadyExists","message":"x"}`: apierrors.IsAlreadyExists,
		`{"kind":"Status","code":403,"reason":"Forbidden","message":"x"}`:     apierrors.IsForbidden,
		`not JSON`: func(err error) bool { return strings.Contains(err.Error(), "418 not JSON") },
	} {
		h.Answer = func(abi.Request) abi.Response {
			var s metav1.Status
			if json.Unmarshal([]byte(body), &s) != nil {
				s.Code = 418
			}
			return abi.Response{Status: s.Code, Body: []byte(body)}
		}
		err := client.New().Delete(context.Background(), configMap())
		if err == nil || !is(fmt.Errorf("wrapped: %w", err)) {
			t.Error(body, err)
		}
	}
}

func TestListsArePaged(t *testing.T) {
	h := fakehost.New(t)
	h.Answer = func(r abi.Request) abi.Response {
		u, _ := url.Parse(r.Path)
		if u.Query().Get("limit") == "" {
			t.Error("no limit")
		}
		page := map[string]string{
			"":  `{"metadata":{"continue":"2"},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}`,
			"2": `{"metadata":{"continue":"3","resourceVersion":"8"},"items":[]}`,
			"3": `{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"c"}}]}`,
		}[u.Query().Get("continue")]
		return abi.Response{Status: 200, Body: []byte(page)}
	}
	var list corev1.ConfigMapList
	if err := client.New().List(context.Background(), &list); err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, item := range list.Items {
		names += item.Name
	}
	if names != "abc" || list.ListMeta.ResourceVersion != "9" {
		t.Errorf("%+v", list)
	}
}

func TestARequestIsRetriedAfterTheTimeInRetryAfter(t *testing.T) {
	h := fakehost.New(t)
	n := 0
	h.Answer = func(abi.Request) abi.Response {
		if n++; n < 3 {
			return abi.Response{Status: 429, Headers: "Retry-After: 0\n"}
		}
		return abi.Response{Status: 200, Body: []byte("{}")}
	}
	if err := client.New().Delete(context.Background(), configMap()); err != nil || n != 3 {
		t.Error(n, err)
	}
	h.Answer = func(abi.Request) abi.Response { n++; return abi.Response{Status: 500, Body: []byte("broken")} }
	if err := client.New().Delete(context.Background(), configMap()); err == nil || n != 4 {
		t.Error("a server error without a time was repeated", n, err)
	}
}

func TestAMergePatchContainsTheDifferences(t *testing.T) {
	before := configMap()
	before.Data = map[string]string{"same": "1", "changed": "1", "gone": "1"}
	before.ResourceVersion = "7"
	before.Finalizers = []string{"x", "y"}
	after := client.DeepCopy(before)
	after.Data = map[string]string{"same": "1", "changed": "2", "new": "1"}
	after.Finalizers = []string{"x"}
	for _, test := range []struct {
		patch client.Patch
		want  string
	}{
		{client.MergeFrom(before), `{"data":{"changed":"2","gone":null,"new":"1"},"metadata":{"finalizers":["x"]}}`},
		{client.MergeFromWithOptimisticLock(before),
			`{"data":{"changed":"2","gone":null,"new":"1"},"metadata":{"finalizers":["x"],"resourceVersion":"7"}}`},
		{client.MergeFromWithOptimisticLock(after), `{"metadata":{"resourceVersion":"7"}}`},
	} {
		got, err := test.patch.Data(after)
		if err != nil || string(got) != test.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, test.want)
		}
	}
}

func TestARequestToAnExternalHostHasItsHeaderFields(t *testing.T) {
	h := fakehost.New(t)
	sent := make(chan abi.Request, 1)
	h.Answer = func(r abi.Request) abi.Response {
		sent <- r
		return abi.Response{Status: 200, Body: []byte("{}")}
	}
	r := client.Request{
		Target: "https://api.example.com", Method: "POST", Path: "/x", ContentType: "a/b",
		Header: map[string]string{"x-b": "2", "authorization": "Bearer x"},
	}
	answer, err := client.New().Do(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	got := <-sent
	if got.Target != r.Target || got.Headers != "content-type: a/b\nauthorization: Bearer x\nx-b: 2\n" {
		t.Errorf("%+v", got)
	}
	r.Header = map[string]string{"x": "a\nb: c"}
	if _, err := client.New().Do(context.Background(), r); err == nil {
		t.Error("a header field of two lines was sent")
	}
}

func TestASubresourceIsReadAndWrittenAsItsOwnType(t *testing.T) {
	h := fakehost.New(t)
	ctx, c := context.Background(), client.New()
	h.Answer = ok(`{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"b","resourceVersion":"7"},"spec":{"replicas":2}}`)
	var scale autoscalingv1.Scale
	if err := c.SubResource("scale").Get(ctx, configMap(), &scale); err != nil || scale.Spec.Replicas != 2 {
		t.Fatal(err, scale)
	}
	<-h.Called
	scale.Spec.Replicas = 3
	if err := c.SubResource("scale").Update(ctx, configMap(), client.WithSubResourceBody(&scale)); err != nil || scale.Spec.Replicas != 2 {
		t.Error(err, scale)
	}
	if sent := (<-h.Called).Body; !strings.Contains(string(sent), `"kind":"Scale"`) || !strings.Contains(string(sent), `"replicas":3`) {
		t.Errorf("%s", sent)
	}
	before := client.DeepCopy(&scale)
	scale.Spec.Replicas = 4
	if err := c.SubResource("scale").Patch(ctx, configMap(), client.MergeFrom(before), client.WithSubResourceBody(&scale)); err != nil {
		t.Error(err)
	}
	if sent := (<-h.Called).Body; string(sent) != `{"spec":{"replicas":4}}` {
		t.Errorf("%s", sent)
	}
}

func TestAStatusResponseDoesNotChangeTheSubresource(t *testing.T) {
	h := fakehost.New(t)
	h.Answer = ok(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201}`)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	for _, sub := range []client.Object{&policyv1.Eviction{ObjectMeta: pod.ObjectMeta}, client.DeepCopy(pod)} {
		if err := client.New().SubResource("eviction").Create(context.Background(), pod, sub); err != nil || sub.GetName() != "b" {
			t.Errorf("%T: %v %q", sub, err, sub.GetName())
		}
	}
}

func TestTheFieldsOfAListCanHaveAnyOrder(t *testing.T) {
	for answer, want := range map[string]string{
		`{"apiVersion":"v1","items":[{"metadata":{"name":"a"}}],"kind":"ConfigMapList","metadata":{"resourceVersion":"9"}}`:     "a",
		`{"metadata":{"resourceVersion":"9"},"new":[{"x":[1]}],"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]} `: "ab",
		`{"metadata":{"resourceVersion":"9"},"items":null}`:                                                                     "",
		`{"metadata":{"resourceVersion":"9"},"items":[]}`:                                                                       "",
		`{"metadata":{"resourceVersion":"9"}}`:                                                                                  "",
	} {
		for _, size := range []int{1, 7, len(answer)} {
			h := fakehost.New(t)
			list := corev1.ConfigMapList{Items: []corev1.ConfigMap{*configMap()}}
			done := make(chan error)
			go func() { done <- client.New().List(context.Background(), &list) }()
			call := <-h.Called
			h.Send(abi.HeadEvent(call.ID, 200, ""))
			for rest := []byte(answer); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				h.Send(abi.BodyEvent(call.ID, rest[:min(size, len(rest))]))
			}
			h.Send(abi.EndEvent(call.ID))
			err := <-done
			names := ""
			for _, item := range list.Items {
				names += item.Name
			}
			if err != nil || names != want || list.ListMeta.ResourceVersion != "9" || list.Items == nil {
				t.Errorf("%s in pieces of %d: %v %+v", answer, size, err, list)
			}
		}
	}
}

func TestATruncatedListDoesNotChangeTheList(t *testing.T) {
	for _, answer := range []string{"", "[]", "{", `{"items":[{"metadata":{"name":"x"}}`, `{"items":5}`, `{"items":[5]}`, `{"items":[]]`, "no JSON"} {
		h := fakehost.New(t)
		h.Answer = ok(answer)
		list := corev1.ConfigMapList{Items: []corev1.ConfigMap{*configMap()}}
		if err := client.New().List(context.Background(), &list); err == nil || len(list.Items) != 1 || list.Items[0].Name != "b" {
			t.Errorf("%q: %v %+v", answer, err, list)
		}
	}
	h := fakehost.New(t)
	h.Answer = func(abi.Request) abi.Response {
		return abi.Response{Status: 403, Body: []byte(`{"kind":"Status","code":403,"reason":"Forbidden","message":"x"}`)}
	}
	if err := client.New().List(context.Background(), &corev1.ConfigMapList{}); !apierrors.IsForbidden(err) {
		t.Error(err)
	}
}

func TestMemoryHoldsAListOnlyOnce(t *testing.T) {
	const items, size = 300, 50_000
	var page strings.Builder
	page.WriteString(`{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":[`)
	for i := range items {
		if i > 0 {
			page.WriteString(",")
		}
		fmt.Fprintf(&page, `{"metadata":{"name":"b%d"},"data":{"v":"%s"}}`, i, strings.Repeat("x", size))
	}
	page.WriteString("]}")
	body := []byte(page.String())
	h := fakehost.New(t)
	go func() {
		call := <-h.Called
		h.Send(abi.HeadEvent(call.ID, 200, ""))
		const piece = 64 << 10
		for rest := body; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			h.Send(abi.BodyEvent(call.ID, rest[:min(piece, len(rest))])) // shares the memory of the response
		}
		h.Send(abi.EndEvent(call.ID))
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var list corev1.ConfigMapList
	if err := client.New().List(context.Background(), &list); err != nil || len(list.Items) != items {
		t.Fatal(err, len(list.Items))
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%.1f MB allocated for a list of %.1f MB", float64(allocated)/1e6, float64(len(body))/1e6)
	if allocated > uint64(len(body))*3/2 {
		t.Errorf("%d bytes allocated for a list of %d", allocated, len(body))
	}
}
