package client_test

import (
	"context"
	"encoding/json"
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

// values are what is easily changed on the way through JSON.
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
	Text     string             `json:"text"`
}

type exact struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              values `json:"spec"`
	Status            values `json:"status"`
}

func (*exact) Resource() metav1.Resource {
	return metav1.Resource{Group: "example.com", Version: "v1", Kind: "Exact", Plural: "exacts", Namespaced: true}
}

const exactValues = `{"max":9223372036854775807,"min":-9223372036854775808,"odd":9007199254740993,"unsigned":18446744073709551615,` +
	`"cpu":"1500m","port":2147483647,"name":"http","micro":"2026-01-02T03:04:05.000600Z","time":"2026-01-02T03:04:05Z","empty":{},"nil":null,` +
	`"raw":{"n":9007199254740993,"f":1.50},"any":{"n":9007199254740993,"deep":[{"min":-9223372036854775808}],"f":1.5},"text":"<&>\u2028"}`

// An object as the API server stores it; the fields called unknown are not in the struct.
const exactObject = `{"apiVersion":"example.com/v1","kind":"Exact","metadata":{"name":"b","namespace":"a","generation":9007199254740993,` +
	`"resourceVersion":"18446744073709551615","managedFields":[{"unknown":1}]},"spec":` + exactValues + `,"status":` + exactValues + `}`

func exactly() values {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return values{
		Max: math.MaxInt64, Min: math.MinInt64, Odd: 9007199254740993, Unsigned: math.MaxUint64, CPU: "1500m",
		Port: metav1.FromInt(math.MaxInt32), Name: metav1.FromString("http"), Micro: metav1.MicroTime{Time: at.Add(600 * time.Microsecond)},
		Time: &metav1.Time{Time: at}, Empty: map[string]string{}, Raw: json.RawMessage(`{"n":9007199254740993,"f":1.50}`), Text: "<&>\u2028",
		Any: map[string]any{"n": int64(9007199254740993), "deep": []any{map[string]any{"min": int64(math.MinInt64)}}, "f": 1.5},
	}
}

func tree(t *testing.T, text []byte) map[string]any {
	t.Helper()
	tree, err := codec.Tree(text)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return tree
}

func TestValuesStayExactThroughEveryCall(t *testing.T) {
	ctx, c := context.Background(), client.New()
	read := func() *exact {
		return &exact{
			TypeMeta:   metav1.TypeMeta{APIVersion: "example.com/v1", Kind: "Exact"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b", Generation: 9007199254740993, ResourceVersion: "18446744073709551615"},
			Spec:       exactly(), Status: exactly(),
		}
	}
	changed := func() *exact {
		o := read()
		o.Spec.Odd += 2
		o.Spec.Any["n"] = int64(math.MaxInt64)
		o.Spec.CPU = "1.5" // the same
		o.Status.Min++
		return o
	}
	whole := tree(t, []byte(strings.ReplaceAll(exactObject, `,"managedFields":[{"unknown":1}]`, ""))) // of what the struct knows
	merge := tree(t, []byte(`{"spec":{"odd":9007199254740995,"any":{"n":9223372036854775807}},"status":{"min":-9223372036854775807}}`))
	raw := []byte(`[{"op":"add","path":"/spec/odd","value":9007199254740993}]`)
	grace := int64(math.MaxInt64)
	for name, test := range map[string]struct {
		do   func(*exact) error
		sent any
	}{
		"get":    {func(o *exact) error { return c.Get(ctx, client.ObjectKeyFromObject(o), o) }, nil},
		"create": {func(o *exact) error { return c.Create(ctx, o) }, whole},
		"update": {func(o *exact) error { return c.Update(ctx, o) }, whole},
		"apply":  {func(o *exact) error { return c.Patch(ctx, o, client.Apply) }, whole},
		"merge": {func(o *exact) error {
			*o = *changed()
			return c.Patch(ctx, o, client.MergeFrom(read()))
		}, merge},
		"JSON patch":    {func(o *exact) error { return c.Patch(ctx, o, client.RawPatch(client.JSONPatchType, raw)) }, raw},
		"status update": {func(o *exact) error { return c.Status().Update(ctx, o) }, whole},
		"status merge": {func(o *exact) error {
			*o = *changed()
			return c.Status().Patch(ctx, o, client.MergeFrom(client.DeepCopy(read())))
		}, merge},
		"copy": {func(o *exact) error {
			*o = *client.DeepCopy(o)
			return nil
		}, nil},
		"delete": {func(o *exact) error {
			return c.Delete(ctx, o, client.GracePeriodSeconds(grace), client.Preconditions{ResourceVersion: o.ResourceVersion})
		}, tree(t, []byte(`{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":9223372036854775807,"preconditions":{"resourceVersion":"18446744073709551615"}}`))},
		"list": {func(o *exact) error {
			var list metav1.List[exact]
			if err := c.List(ctx, &list, client.InNamespace("a")); err != nil {
				return err
			}
			*o = list.Items[1]
			return nil
		}, nil},
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
			o := read()
			if err := test.do(o); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(o, read()) {
				t.Errorf("got  %+v\nwant %+v", o, read())
			}
			if name == "copy" {
				return
			}
			sent := (<-h.Called).Body
			switch want := test.sent.(type) {
			case map[string]any:
				if got := tree(t, sent); !reflect.DeepEqual(got, want) {
					t.Errorf("sent %s", sent)
				}
			case []byte:
				if string(sent) != string(want) {
					t.Errorf("sent %s", sent)
				}
			default:
				if len(sent) != 0 {
					t.Errorf("sent %s", sent)
				}
			}
		})
	}
}
