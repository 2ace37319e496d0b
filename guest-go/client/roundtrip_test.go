package client_test

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/codec"
	"github.com/wasmop/wasmop/guest-go/internal/fakehost"
	"github.com/wasmop/wasmop/guest-go/metav1"
	"github.com/wasmop/wasmop/guest-go/resource"
)

// values are values that JSON decoders often change.
type values struct {
	Max      int64              `json:"max"`
	Min      int64              `json:"min"`
	Odd      int64              `json:"odd"`
	Unsigned uint64             `json:"unsigned"`
	CPU      resource.Quantity  `json:"cpu"`
	Port     metav1.IntOrString `json:"port"`
	Name     metav1.IntOrString `json:"name"`
	Micro    metav1.MicroTime   `json:"micro"`
	Time     *metav1.Time       `json:"time,omitempty"`
	Empty    map[string]string  `json:"empty"`
	Nil      map[string]string  `json:"nil"`
	Raw      json.RawMessage    `json:"raw"`
	Any      map[string]any     `json:"any"`
	Items    []item             `json:"items"`
	Text     string             `json:"text"`
}

type item struct {
	N int64 `json:"n"`
}

var exacts = metav1.Resource{Group: "example.com", Version: "v1", Kind: "Exact", Plural: "exacts", Namespaced: true}

// typed has a field for each value except the unknown ones.
type typed struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              values `json:"spec"`
	Status            values `json:"status"`
}

func (*typed) Resource() metav1.Resource { return exacts }

// untyped is the same kind, with fields of any name.
type untyped struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              map[string]any `json:"spec"`
	Status            map[string]any `json:"status"`
}

func (*untyped) Resource() metav1.Resource { return exacts }

// unknownValues have no fields in the struct.
const unknownValues = `,"unknown":{"n":9007199254740993,"deep":[{"min":-9223372036854775808}]}`

const knownValues = `"max":9223372036854775807,"min":-9223372036854775808,"odd":9007199254740993,"unsigned":18446744073709551615,` +
	`"cpu":"1000m","port":2147483647,"name":"http","micro":"2026-01-02T03:04:05.000600Z","time":"2026-01-02T03:04:05Z","empty":{},"nil":null,` +
	`"raw":{"n":9007199254740993,"f":1.50},"any":{"n":9007199254740993,"deep":[{"min":-9223372036854775808}],"f":1.5},` +
	`"items":[{"n":9007199254740993` + unknownItem + `}],"text":"<&>\u2028"`

const unknownItem = `,"unknown":1`

const exactMeta = `{"apiVersion":"example.com/v1","kind":"Exact","metadata":{"name":"b","namespace":"a","uid":"u","generation":9007199254740993,` +
	`"resourceVersion":"18446744073709551615"`

// An object as the API server stores it.
const exactObject = exactMeta + `,"managedFields":[{"unknown":1}]},"spec":{` + knownValues + unknownValues + `},"status":{` + knownValues + unknownValues + `}}`

func exactMetadata() (metav1.TypeMeta, metav1.ObjectMeta) {
	return metav1.TypeMeta{APIVersion: "example.com/v1", Kind: "Exact"},
		metav1.ObjectMeta{Namespace: "a", Name: "b", UID: "u", Generation: 9007199254740993, ResourceVersion: "18446744073709551615"}
}

func typedValues() values {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return values{
		Max: math.MaxInt64, Min: math.MinInt64, Odd: 9007199254740993, Unsigned: math.MaxUint64, CPU: "1000m",
		Port: metav1.FromInt(math.MaxInt32), Name: metav1.FromString("http"), Micro: metav1.MicroTime{Time: at.Add(600 * time.Microsecond)},
		Time: &metav1.Time{Time: at}, Empty: map[string]string{}, Raw: json.RawMessage(`{"n":9007199254740993,"f":1.50}`), Text: "<&>\u2028",
		Any:   map[string]any{"n": int64(9007199254740993), "deep": []any{map[string]any{"min": int64(math.MinInt64)}}, "f": 1.5},
		Items: []item{{N: 9007199254740993}},
	}
}

func untypedValues() map[string]any {
	deep := []any{map[string]any{"min": int64(math.MinInt64)}}
	return map[string]any{
		"max": int64(math.MaxInt64), "min": int64(math.MinInt64), "odd": int64(9007199254740993),
		"unsigned": float64(math.MaxUint64), // as in apimachinery, because it exceeds int64
		"cpu":      "1000m", "port": int64(math.MaxInt32), "name": "http",
		"micro": "2026-01-02T03:04:05.000600Z", "time": "2026-01-02T03:04:05Z", "empty": map[string]any{}, "nil": nil,
		"raw": map[string]any{"n": int64(9007199254740993), "f": 1.5}, "text": "<&>\u2028",
		"any":     map[string]any{"n": int64(9007199254740993), "deep": deep, "f": 1.5},
		"items":   []any{map[string]any{"n": int64(9007199254740993), "unknown": int64(1)}},
		"unknown": map[string]any{"n": int64(9007199254740993), "deep": deep},
	}
}

func tree(t *testing.T, text string) map[string]any {
	t.Helper()
	tree, err := codec.Tree([]byte(text))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return tree
}

// sample is a representation of exactObject.
type sample[P client.Object] struct {
	read   func() P // the object as the client reads it
	copied func() P // a DeepCopy
	whole  string   // the object as the client sends it
	change func(P)
	merge  string // the merge patch of that change
	copy   func(P) P
	list   func(context.Context, client.Client) (P, error) // the second object of a list
}

// typedSample sends quantities in their canonical form, and no unknown fields.
var typedSample = sample[*typed]{
	read: func() *typed {
		t, m := exactMetadata()
		return &typed{TypeMeta: t, ObjectMeta: m, Spec: typedValues(), Status: typedValues()}
	},
	copied: func() *typed {
		t, m := exactMetadata()
		o := &typed{TypeMeta: t, ObjectMeta: m, Spec: typedValues(), Status: typedValues()}
		o.Spec.CPU, o.Status.CPU = "1", "1"
		return o
	},
	whole: strings.NewReplacer(`,"managedFields":[{"unknown":1}]`, "", unknownValues, "", unknownItem, "", "1000m", "1").Replace(exactObject),
	change: func(o *typed) {
		o.Spec.Odd += 2
		o.Spec.Any["n"] = int64(math.MaxInt64)
		o.Spec.CPU = "1" // the same
		o.Status.Min++
	},
	merge: `{"spec":{"odd":9007199254740995,"any":{"n":9223372036854775807}},"status":{"min":-9223372036854775807}}`,
	copy:  client.DeepCopy[typed],
	list: func(ctx context.Context, c client.Client) (*typed, error) {
		var list metav1.List[typed]
		if err := c.List(ctx, &list, client.InNamespace("a")); err != nil {
			return nil, err
		}
		return &list.Items[1], nil
	},
}

// untypedSample sends all fields that it has read, except metadata that ObjectMeta lacks.
var untypedSample = sample[*untyped]{
	read: readUntyped, copied: readUntyped,
	whole: strings.NewReplacer(`,"managedFields":[{"unknown":1}]`, "", "18446744073709551615,", "18446744073709552000,", "1.50}", "1.5}").Replace(exactObject),
	change: func(o *untyped) {
		o.Spec["odd"] = int64(9007199254740995)
		o.Spec["cpu"] = "1" // other text
		o.Spec["unknown"].(map[string]any)["n"] = int64(math.MaxInt64)
		o.Status["min"] = int64(math.MinInt64 + 1)
	},
	merge: `{"spec":{"odd":9007199254740995,"cpu":"1","unknown":{"n":9223372036854775807}},"status":{"min":-9223372036854775807}}`,
	copy:  client.DeepCopy[untyped],
	list: func(ctx context.Context, c client.Client) (*untyped, error) {
		var list metav1.List[untyped]
		if err := c.List(ctx, &list, client.InNamespace("a")); err != nil {
			return nil, err
		}
		return &list.Items[1], nil
	},
}

func readUntyped() *untyped {
	t, m := exactMetadata()
	return &untyped{TypeMeta: t, ObjectMeta: m, Spec: untypedValues(), Status: untypedValues()}
}

func TestValuesOfATypedObjectStayExactThroughEveryCall(t *testing.T) { roundTrips(t, typedSample) }

func TestValuesOfAnUntypedObjectStayExactThroughEveryCall(t *testing.T) { roundTrips(t, untypedSample) }

func roundTrips[P client.Object](t *testing.T, s sample[P]) {
	ctx, c := context.Background(), client.New()
	key := client.ObjectKeyFromObject(s.read())
	changed := func() P {
		o := s.read()
		s.change(o)
		return o
	}
	// sub is an object of the same kind in place of a subresource.
	sub := c.SubResource("sub")
	locked := strings.Replace(s.merge, `{`, `{"metadata":{"resourceVersion":"18446744073709551615"},`, 1)
	const raw = `[{"op":"add","path":"/spec/odd","value":9007199254740993}]`
	rawPatch := client.RawPatch(client.JSONPatchType, []byte(raw))
	rawMerge := client.RawPatch(client.MergePatchType, []byte(s.merge))
	const preconditions = `{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":9223372036854775807,` +
		`"preconditions":{"uid":"u","resourceVersion":"18446744073709551615"}}`
	// do makes the call with an object and returns the object with the response.
	for name, test := range map[string]struct {
		do   func(o P) (P, error)
		sent string
	}{
		"get":             {func(o P) (P, error) { return o, c.Get(ctx, key, o) }, ""},
		"get from cache":  {func(o P) (P, error) { return o, c.Get(ctx, key, o, client.FromCache) }, ""},
		"list":            {func(P) (P, error) { return s.list(ctx, c) }, ""},
		"create":          {func(o P) (P, error) { return o, c.Create(ctx, o) }, s.whole},
		"update":          {func(o P) (P, error) { return o, c.Update(ctx, o) }, s.whole},
		"apply":           {func(o P) (P, error) { return o, c.Patch(ctx, o, client.Apply, client.ForceOwnership) }, s.whole},
		"raw merge patch": {func(o P) (P, error) { return o, c.Patch(ctx, o, rawMerge) }, s.merge},
		"JSON patch":      {func(o P) (P, error) { return o, c.Patch(ctx, o, rawPatch) }, raw},
		"merge": {func(P) (P, error) {
			o := changed()
			return o, c.Patch(ctx, o, client.MergeFrom(s.read()))
		}, s.merge},
		"merge from a copy": {func(o P) (P, error) {
			before := s.copy(o)
			s.change(o)
			return o, c.Patch(ctx, o, client.MergeFrom(before))
		}, s.merge},
		"merge with lock": {func(P) (P, error) {
			o := changed()
			return o, c.Patch(ctx, o, client.MergeFromWithOptimisticLock(s.read()))
		}, locked},
		"status create": {func(o P) (P, error) {
			body := s.read()
			return body, c.Status().Create(ctx, o, body)
		}, s.whole},
		"status update":     {func(o P) (P, error) { return o, c.Status().Update(ctx, o) }, s.whole},
		"status apply":      {func(o P) (P, error) { return o, c.Status().Patch(ctx, o, client.Apply) }, s.whole},
		"status JSON patch": {func(o P) (P, error) { return o, c.Status().Patch(ctx, o, rawPatch) }, raw},
		"status merge": {func(P) (P, error) {
			o := changed()
			return o, c.Status().Patch(ctx, o, client.MergeFrom(s.read()))
		}, s.merge},
		"status merge with lock": {func(P) (P, error) {
			o := changed()
			return o, c.Status().Patch(ctx, o, client.MergeFromWithOptimisticLock(s.read()))
		}, locked},
		"subresource get": {func(o P) (P, error) {
			body := changed()
			return body, sub.Get(ctx, o, body)
		}, ""},
		"subresource create": {func(o P) (P, error) {
			body := s.read()
			return body, sub.Create(ctx, o, body)
		}, s.whole},
		"subresource update": {func(o P) (P, error) {
			body := s.read()
			return body, sub.Update(ctx, o, client.WithSubResourceBody(body))
		}, s.whole},
		"subresource update of the object": {func(o P) (P, error) { return o, sub.Update(ctx, o) }, s.whole},
		"subresource merge": {func(o P) (P, error) {
			body := changed()
			return body, sub.Patch(ctx, o, client.MergeFrom(s.read()), client.WithSubResourceBody(body))
		}, s.merge},
		"subresource merge with lock": {func(o P) (P, error) {
			body := changed()
			return body, sub.Patch(ctx, o, client.MergeFromWithOptimisticLock(s.read()), client.WithSubResourceBody(body))
		}, locked},
		"subresource apply":      {func(o P) (P, error) { return o, sub.Patch(ctx, o, client.Apply) }, s.whole},
		"subresource JSON patch": {func(o P) (P, error) { return o, sub.Patch(ctx, o, rawPatch) }, raw},
		"delete": {func(o P) (P, error) {
			m := o.GetObjectMeta()
			return o, c.Delete(ctx, o, client.GracePeriodSeconds(math.MaxInt64),
				client.Preconditions{UID: m.UID, ResourceVersion: m.ResourceVersion})
		}, preconditions},
		"delete all": {func(o P) (P, error) { return o, c.DeleteAllOf(ctx, o, client.InNamespace("a")) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := fakehost.New(t)
			h.Answer = func(r abi.Request) abi.Response {
				body := exactObject
				if strings.Contains(r.Path, "/exacts?limit") {
					body = `{"kind":"ExactList","metadata":{"resourceVersion":"1"},"items":[` + exactObject + `,` + exactObject + `]}`
				}
				return abi.Response{Status: 200, Body: []byte(body)}
			}
			o, err := test.do(s.read())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(o, s.read()) {
				t.Errorf("got  %+v\nwant %+v", o, s.read())
			}
			sent := string((<-h.Called).Body)
			switch {
			case !strings.HasPrefix(test.sent, "{"):
				if sent != test.sent {
					t.Errorf("sent %s", sent)
				}
			case !reflect.DeepEqual(tree(t, sent), tree(t, test.sent)):
				t.Errorf("sent %s\nwant %s", sent, test.sent)
			}
		})
	}
	t.Run("copy", func(t *testing.T) {
		if o := s.copy(s.read()); !reflect.DeepEqual(o, s.copied()) {
			t.Errorf("got  %+v\nwant %+v", o, s.copied())
		}
	})
}

func TestSelectorsAndBodiesOfOtherRequestsStayExact(t *testing.T) {
	h := fakehost.New(t)
	h.Answer = ok(exactObject)
	ctx, c := context.Background(), client.New()
	err := c.DeleteAllOf(ctx, &typed{}, client.InNamespace("a"), client.MatchingLabels{"max": "9223372036854775807"},
		client.MatchingFields{"spec.odd": "9007199254740993"}, client.ResourceVersion("18446744073709551615"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "/apis/example.com/v1/namespaces/a/exacts?fieldSelector=spec.odd%3D9007199254740993" +
		"&labelSelector=max%3D9223372036854775807&resourceVersion=18446744073709551615"
	if r := <-h.Called; r.Method != "DELETE" || r.Path != want || len(r.Body) != 0 {
		t.Errorf("%s %s %s", r.Method, r.Path, r.Body)
	}
	answer, err := c.Do(ctx, client.Request{Method: "POST", Path: "/x", Body: []byte(exactObject)})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got, err := io.ReadAll(answer.Body); err != nil || string(got) != exactObject {
		t.Errorf("%v: %s", err, got)
	}
	if sent := (<-h.Called).Body; string(sent) != exactObject {
		t.Errorf("sent %s", sent)
	}
}
