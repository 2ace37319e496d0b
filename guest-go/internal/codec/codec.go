package codec

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strconv"
	"sync"
)

// Unmarshal decodes JSON into the value that v points to, like json.Unmarshal.
func Unmarshal(data []byte, v any) error {
	if !holdsAny(reflect.TypeOf(v)) {
		return json.Unmarshal(data, v)
	}
	// json.Unmarshal has no UseNumber, and a Decoder ignores data after the value.
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

// Decode decodes the next JSON value of a stream into the value that v points to.
func Decode(d *json.Decoder, v any) error {
	if err := d.Decode(v); err != nil {
		return err
	}
	if holdsAny(reflect.TypeOf(v)) {
		convertNumbers(reflect.ValueOf(v))
	}
	return nil
}

// Tree decodes an untyped JSON object. Its numbers are json.Number, which keeps all digits.
func Tree(data []byte) (map[string]any, error) {
	var tree map[string]any
	err := NewDecoder(bytes.NewReader(data)).Decode(&tree)
	return tree, err
}

var (
	knownMu sync.Mutex
	// known caches the results of holdsAny.
	known = map[reflect.Type]bool{}
)

// holdsAny reports whether values of the type can contain an interface, whose numbers need conversion.
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

// findsAny skips the types in seen, because types can be recursive.
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

// convertNumbers replaces each json.Number in the interfaces of v.
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
			// Map elements are not addressable.
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

// converted returns a value from encoding/json with converted numbers.
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
