package equality_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/wasmop/wasmop/guest-go/equality"
	"github.com/wasmop/wasmop/guest-go/metav1"
	"github.com/wasmop/wasmop/guest-go/resource"
)

type embedded struct{ Embedded int }

type everything struct {
	embedded
	N       int
	Any     any
	Pointer *int
	Map     map[string]resource.Quantity
	Slice   []string
	Bytes   []byte
	Time    metav1.Time
	Micro   *metav1.MicroTime
	Port    metav1.IntOrString
	Raw     json.RawMessage `json:",omitempty"`
	Hidden  int             `json:"-"`
	hidden  int
}

func TestObjectsAreComparedSemantically(t *testing.T) {
	one, two := 1, 2
	at := time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)
	micro := func(ns int) *metav1.MicroTime { return &metav1.MicroTime{Time: at.Add(time.Duration(ns))} }
	for name, test := range map[string]struct {
		a, b  any
		equal bool
	}{
		"quantities by value":     {everything{Map: map[string]resource.Quantity{"cpu": "1000m", "memory": "1Gi"}}, everything{Map: map[string]resource.Quantity{"cpu": "1", "memory": "1073741824"}}, true},
		"other quantities":        {everything{Map: map[string]resource.Quantity{"cpu": "1"}}, everything{Map: map[string]resource.Quantity{"cpu": "1001m"}}, false},
		"other keys":              {everything{Map: map[string]resource.Quantity{"cpu": "0"}}, everything{Map: map[string]resource.Quantity{"memory": "0"}}, false},
		"empty and nil":           {everything{Map: map[string]resource.Quantity{}, Slice: []string{}, Bytes: []byte{}}, everything{}, true},
		"the order of a slice":    {everything{Slice: []string{"a", "b"}}, everything{Slice: []string{"b", "a"}}, false},
		"bytes":                   {everything{Bytes: []byte("a")}, everything{Bytes: []byte("b")}, false},
		"pointers by value":       {everything{Pointer: new(1)}, everything{Pointer: &one}, true},
		"other pointers":          {everything{Pointer: &two}, everything{Pointer: &one}, false},
		"nil and zero":            {everything{Pointer: new(0)}, everything{}, false},
		"a second":                {everything{Time: metav1.NewTime(at)}, everything{Time: metav1.NewTime(at.Truncate(time.Second).In(time.FixedZone("east", 3600)))}, true},
		"other seconds":           {everything{Time: metav1.NewTime(at)}, everything{Time: metav1.NewTime(at.Add(time.Second))}, false},
		"a microsecond":           {everything{Micro: micro(1)}, everything{Micro: micro(999)}, true},
		"other microseconds":      {everything{Micro: micro(1)}, everything{Micro: micro(1000)}, false},
		"no time":                 {everything{Micro: micro(1)}, everything{}, false},
		"ports":                   {everything{Port: metav1.FromInt(80)}, everything{Port: metav1.FromString("80")}, false},
		"numbers of any type":     {everything{Any: map[string]any{"n": 5}}, everything{Any: map[string]any{"n": int64(5)}}, true},
		"other numbers":           {everything{Any: int64(9007199254740992)}, everything{Any: int64(9007199254740993)}, false},
		"raw JSON":                {everything{Raw: json.RawMessage(`{"a": 1}`)}, everything{Raw: json.RawMessage(`{"a":1}`)}, true},
		"embedded":                {everything{embedded: embedded{1}}, everything{}, false},
		"what JSON does not have": {everything{Hidden: 1, hidden: 1}, everything{}, true},
		"other types":             {everything{}, embedded{}, false},
		"nothing":                 {nil, nil, true},
		"nothing and something":   {everything{}, nil, false},
		"through pointers":        {&everything{N: 1}, &everything{N: 2}, false},
	} {
		if equality.Semantic.DeepEqual(test.a, test.b) != test.equal || equality.Semantic.DeepEqual(test.b, test.a) != test.equal {
			t.Errorf("%s: want equal to be %t", name, test.equal)
		}
	}
}
