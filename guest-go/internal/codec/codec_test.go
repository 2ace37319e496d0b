package codec_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/wasmop/wasmop/guest-go/internal/codec"
)

type node struct {
	Name  string `json:"name"`
	Left  *node  `json:"left,omitempty"`
	Value any    `json:"value,omitempty"`
}

type embedded struct {
	Embedded any `json:"embedded"`
}

type typed struct {
	N    int64       `json:"n"`
	Raw  json.Number `json:"raw"`
	Self []typed     `json:"self,omitempty"`
}

func TestUntypedNumbersStayExact(t *testing.T) {
	const max, min, odd = "9223372036854775807", "-9223372036854775808", "9007199254740993"
	var got struct {
		Any   any            `json:"any"`
		Map   map[string]any `json:"map"`
		Slice []any          `json:"slice"`
		Maps  map[string]struct{ V any }
		Tree  node `json:"tree"`
		None  any  `json:"none"`
		embedded
		Typed typed `json:"typed"`
	}
	text := `{"any":` + max + `,"map":{"min":` + min + `,"deep":[{"x":` + odd + `}],"f":1.5,"e":1e3},"slice":[` + odd + `,"s",true,null],` +
		`"Maps":{"a":{"V":` + odd + `}},"tree":{"name":"a","left":{"name":"b","value":` + odd + `}},"none":null,"embedded":` + odd + `,"typed":{"n":` + max + `,"raw":1.50}}`
	if err := codec.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]any{
		"any":      {got.Any, int64(9223372036854775807)},
		"map":      {got.Map, map[string]any{"min": int64(-9223372036854775808), "deep": []any{map[string]any{"x": int64(9007199254740993)}}, "f": 1.5, "e": 1000.0}},
		"slice":    {got.Slice, []any{int64(9007199254740993), "s", true, nil}},
		"maps":     {got.Maps["a"].V, int64(9007199254740993)},
		"tree":     {got.Tree.Left.Value, int64(9007199254740993)},
		"none":     {got.None, nil},
		"embedded": {got.Embedded, int64(9007199254740993)},
		"typed":    {got.Typed, typed{N: 9223372036854775807, Raw: "1.50"}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: got %#v, want %#v", name, pair[0], pair[1])
		}
	}
}

func TestNumbersBeyondAnInt64AreFloats(t *testing.T) {
	var got any
	if err := codec.Unmarshal([]byte("9223372036854775808"), &got); err != nil || got != 9223372036854775808.0 {
		t.Errorf("%#v, %v", got, err)
	}
	// A number that no type can represent stays unchanged.
	if err := codec.Unmarshal([]byte("1e999"), &got); err != nil || got != json.Number("1e999") {
		t.Errorf("%#v, %v", got, err)
	}
}

func TestAnythingButOneJSONValueIsRefused(t *testing.T) {
	for _, text := range []string{"", "{", "{} {}", "[1]x", `{"a":01}`} {
		var untyped map[string]any
		if err := codec.Unmarshal([]byte(text), &untyped); err == nil {
			t.Errorf("%q was read into a map", text)
		}
		if err := codec.Unmarshal([]byte(text), &typed{}); err == nil {
			t.Errorf("%q was read into a struct", text)
		}
	}
}

func TestAStreamIsDecodedValueByValue(t *testing.T) {
	d := codec.NewDecoder(strings.NewReader(`{"value":9007199254740993} {"value":2}`))
	for _, want := range []int64{9007199254740993, 2} {
		var got node
		if err := codec.Decode(d, &got); err != nil || got.Value != want {
			t.Errorf("%#v, %v", got, err)
		}
	}
}
