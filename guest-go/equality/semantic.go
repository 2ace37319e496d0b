package equality

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/wasmop/wasmop/guest-go/resource"
)

// Semantic compares objects semantically. Quantities are compared by value, and an empty slice or map equals a missing
// one.
var Semantic Equalities

// Equalities has no state; see Semantic.
type Equalities struct{}

// DeepEqual reports whether a and b are semantically equal. They must have the same type, or point to the same type. It
// compares the values as they are encoded in JSON.
func (Equalities) DeepEqual(a, b any) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	return x.Type() == y.Type() && equal(x, y)
}

func equal(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		if marshals(a) {
			return sameJSON(a, b)
		}
		return equal(a.Elem(), b.Elem())
	case reflect.Interface:
		return sameJSON(a, b)
	}
	if a.CanInterface() {
		if q, ok := a.Interface().(resource.Quantity); ok {
			return q.Equal(b.Interface().(resource.Quantity))
		}
		if marshals(a) {
			return sameJSON(a, b)
		}
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if isInJSON(a.Type().Field(i)) && !equal(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for _, key := range a.MapKeys() {
			other := b.MapIndex(key)
			if !other.IsValid() || !equal(a.MapIndex(key), other) {
				return false
			}
		}
		return true
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		if a.Kind() == reflect.Slice && a.Type().Elem().Kind() == reflect.Uint8 {
			return bytes.Equal(a.Bytes(), b.Bytes())
		}
		for i := range a.Len() {
			if !equal(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func marshals(v reflect.Value) bool {
	_, ok := v.Interface().(json.Marshaler)
	return ok
}

func isInJSON(f reflect.StructField) bool {
	isStruct := f.Type.Kind() == reflect.Struct
	return (f.IsExported() || f.Anonymous && isStruct) && f.Tag.Get("json") != "-"
}

// sameJSON compares values that implement json.Marshaler or have an unknown type.
func sameJSON(a, b reflect.Value) bool {
	x, errX := json.Marshal(a.Interface())
	y, errY := json.Marshal(b.Interface())
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
