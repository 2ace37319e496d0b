// Package codec reads Kubernetes objects from JSON.
//
// It differs from encoding/json in one way: integers stay exact where a type says "any". encoding/json
// reads every number there as a float64, which changes integers above 2^53. As in apimachinery, such an
// integer becomes an int64, and any other number a float64.
package codec

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strconv"
	"sync"
)

// Unmarshal reads JSON into what v points to, as json.Unmarshal does.
func Unmarshal(data []byte, v any) error {
	if !holdsAny(reflect.TypeOf(v)) {
		return json.Unmarshal(data, v)
	}
	// Unmarshal has no UseNumber, and a Decoder does not see what follows the value.
	if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
		return err
	}
	return Decode(NewDecoder(bytes.NewReader(data)), v)
}

// NewDecoder returns a decoder for Decode.
func NewDecoder(r io.Reader) *json.Decoder {
	d := json.NewDecoder(r)
	d.UseNumber()
	return d
}

// Decode reads the next value of a stream of JSON into what v points to.
func Decode(d *json.Decoder, v any) error {
	if err := d.Decode(v); err != nil {
		return err
	}
	if holdsAny(reflect.TypeOf(v)) {
		convertNumbers(reflect.ValueOf(v))
	}
	return nil
}

// Tree reads a JSON object that has no type. Its numbers are json.Number, digit by digit what the JSON says.
func Tree(data []byte) (map[string]any, error) {
	var tree map[string]any
	err := NewDecoder(bytes.NewReader(data)).Decode(&tree)
	return tree, err
}

var (
	knownMu sync.Mutex
	// known is what holdsAny has found out about types.
	known = map[reflect.Type]bool{}
)

// holdsAny says whether values of the type can hold an interface, whose numbers have to be converted.
func holdsAny(t reflect.Type) bool {
	knownMu.Lock()
	defer knownMu.Unlock()
	holds, ok := known[t]
	if !ok {
		holds = findsAny(t, map[reflect.Type]bool{})
		known[t] = holds
	}
	return holds
}

// findsAny skips the types in seen: types can contain themselves.
func findsAny(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return findsAny(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); (f.IsExported() || f.Anonymous) && findsAny(f.Type, seen) {
				return true
			}
		}
	}
	return false
}

// convertNumbers replaces each json.Number that an interface in v holds.
func convertNumbers(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			convertNumbers(v.Elem())
		}
	case reflect.Interface:
		if !v.IsNil() && v.CanSet() && v.NumMethod() == 0 {
			v.Set(reflect.ValueOf(converted(v.Interface())))
		}
	case reflect.Slice, reflect.Array:
		if !holdsAny(v.Type()) {
			return
		}
		for i := range v.Len() {
			convertNumbers(v.Index(i))
		}
	case reflect.Map:
		if !holdsAny(v.Type()) {
			return
		}
		for _, key := range v.MapKeys() {
			// Elements of a map cannot be set in place.
			element := reflect.New(v.Type().Elem()).Elem()
			element.Set(v.MapIndex(key))
			convertNumbers(element)
			v.SetMapIndex(key, element)
		}
	case reflect.Struct:
		if !holdsAny(v.Type()) {
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() || f.Anonymous {
				convertNumbers(v.Field(i))
			}
		}
	}
}

// converted returns a value that encoding/json has read into an interface, with other numbers.
func converted(value any) any {
	switch value := value.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(value.String(), 10, 64); err == nil {
			return n
		}
		if f, err := value.Float64(); err == nil {
			return f
		}
	case map[string]any:
		for key, element := range value {
			value[key] = converted(element)
		}
	case []any:
		for i, element := range value {
			value[i] = converted(element)
		}
	}
	return value
}
