package client_test

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/fakehost"
)

// store is an API server with one object. It has no schema and no field owners, so an apply removes nothing.
type store struct{ object map[string]any }

func (s *store) answer(t *testing.T) func(abi.Request) abi.Response {
	return func(r abi.Request) abi.Response {
		switch {
		case r.Method == "GET":
		case r.Method == "PUT" && strings.HasSuffix(r.Path, "/status"):
			s.object["status"] = tree(t, string(r.Body))["status"]
		case r.Method == "PUT":
			s.object = tree(t, string(r.Body))
		case strings.Contains(r.Headers, client.JSONPatchType):
			var operations []struct {
				Op, Path string
				Value    json.RawMessage
			}
			if err := json.Unmarshal(r.Body, &operations); err != nil {
				t.Error(err)
			}
			for _, o := range operations {
				keys := strings.Split(strings.TrimPrefix(o.Path, "/"), "/")
				parent := s.object[keys[0]].(map[string]any)
				parent[keys[1]] = json.Number(o.Value)
			}
		default:
			s.object = merged(s.object, tree(t, string(r.Body)))
		}
		body, err := json.Marshal(s.object)
		if err != nil {
			t.Error(err)
		}
		return abi.Response{Status: 200, Body: body}
	}
}

// merged applies a merge patch as in RFC 7396.
func merged(target, patch map[string]any) map[string]any {
	for key, value := range patch {
		inner, isMap := value.(map[string]any)
		switch {
		case value == nil:
			delete(target, key)
		case isMap:
			before, _ := target[key].(map[string]any)
			if before == nil {
				before = map[string]any{}
			}
			target[key] = merged(before, inner)
		default:
			target[key] = value
		}
	}
	return target
}

// The initial object of the store. A merge patch replaces a list of objects as a whole.
const stored = exactMeta + `},"spec":{"odd":9007199254740993,"cpu":"1000m","unknown":{"n":9007199254740993},"items":[{"n":1,"unknown":1}]},` +
	`"status":{"min":-9223372036854775808,"unknown":9223372036854775807}}`

func TestPatchesKeepFieldsThatATypedObjectLacks(t *testing.T) {
	ctx, c := context.Background(), client.New()
	odd := func(o *typed) *typed {
		copied := client.DeepCopy(o)
		o.Spec.Odd += 2
		return copied
	}
	for name, test := range map[string]struct {
		do   func(o *typed) error
		kept []string
		lost []string
	}{
		"merge": {do: func(o *typed) error {
			return c.Patch(ctx, o, client.MergeFrom(odd(o)))
		}, kept: []string{"spec.unknown", "spec.items", "spec.cpu", "status.unknown"}},
		"merge with lock": {do: func(o *typed) error {
			return c.Patch(ctx, o, client.MergeFromWithOptimisticLock(odd(o)))
		}, kept: []string{"spec.unknown", "spec.items", "spec.cpu", "status.unknown"}},
		"status merge": {do: func(o *typed) error {
			return c.Status().Patch(ctx, o, client.MergeFrom(odd(o)))
		}, kept: []string{"spec.unknown", "spec.items", "spec.cpu", "status.unknown"}},
		"JSON patch": {do: func(o *typed) error {
			data := []byte(`[{"op":"replace","path":"/spec/odd","value":9007199254740995}]`)
			return c.Patch(ctx, o, client.RawPatch(client.JSONPatchType, data))
		}, kept: []string{"spec.unknown", "spec.items", "spec.cpu", "status.unknown"}},
		"apply": {do: func(o *typed) error {
			odd(o)
			return c.Patch(ctx, o, client.Apply)
		}, kept: []string{"spec.unknown", "status.unknown"}, lost: []string{"spec.items"}},
		"merge of a list": {do: func(o *typed) error {
			before := odd(o)
			o.Spec.Items = append(o.Spec.Items, item{N: 2})
			return c.Patch(ctx, o, client.MergeFrom(before))
		}, kept: []string{"spec.unknown", "status.unknown"}, lost: []string{"spec.items"}},
		"update": {do: func(o *typed) error {
			odd(o)
			return c.Update(ctx, o)
		}, lost: []string{"spec.unknown", "spec.items", "status.unknown"}},
		"status update": {do: func(o *typed) error {
			if err := c.Patch(ctx, o, client.MergeFrom(odd(o))); err != nil {
				return err
			}
			return c.Status().Update(ctx, o)
		}, kept: []string{"spec.unknown", "spec.items", "spec.cpu"}, lost: []string{"status.unknown"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{tree(t, stored)}
			h := fakehost.New(t)
			h.Answer = s.answer(t)
			var o typed
			if err := c.Get(ctx, client.ObjectKey{Namespace: "a", Name: "b"}, &o); err != nil {
				t.Fatal(err)
			}
			if err := test.do(&o); err != nil {
				t.Fatal(err)
			}
			before := tree(t, stored)
			for _, path := range test.kept {
				if got, want := field(s.object, path), field(before, path); !reflect.DeepEqual(got, want) {
					t.Errorf("%s is %v, was %v", path, got, want)
				}
			}
			for _, path := range test.lost {
				if got := field(s.object, path); reflect.DeepEqual(got, field(before, path)) {
					t.Errorf("%s is still %v", path, got)
				}
			}
			if got := field(s.object, "spec.odd"); got != json.Number("9007199254740995") {
				t.Errorf("spec.odd is %v", got)
			}
		})
	}
}

func TestAnUntypedObjectKeepsEachFieldThroughAnUpdate(t *testing.T) {
	ctx, c := context.Background(), client.New()
	for name, write := range map[string]func(before, o *untyped) error{
		"update": func(_, o *untyped) error { return c.Update(ctx, o) },
		"apply":  func(_, o *untyped) error { return c.Patch(ctx, o, client.Apply) },
		"merge":  func(before, o *untyped) error { return c.Patch(ctx, o, client.MergeFrom(before)) },
		"merge with lock": func(before, o *untyped) error {
			return c.Patch(ctx, o, client.MergeFromWithOptimisticLock(before))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{tree(t, stored)}
			h := fakehost.New(t)
			h.Answer = s.answer(t)
			var o untyped
			if err := c.Get(ctx, client.ObjectKey{Namespace: "a", Name: "b"}, &o); err != nil {
				t.Fatal(err)
			}
			before := client.DeepCopy(&o)
			o.Spec["items"] = append(o.Spec["items"].([]any), map[string]any{"n": int64(9007199254740993)})
			if err := write(before, &o); err != nil {
				t.Fatal(err)
			}
			want := tree(t, strings.Replace(stored, `"unknown":1}]`, `"unknown":1},{"n":9007199254740993}]`, 1))
			if !reflect.DeepEqual(s.object, want) {
				t.Errorf("got  %v\nwant %v", s.object, want)
			}
		})
	}
}

// field returns the field at a path of two names.
func field(object map[string]any, path string) any {
	outer, inner, _ := strings.Cut(path, ".")
	fields, _ := object[outer].(map[string]any)
	return fields[inner]
}

func TestAnOptimisticLockRequiresTheVersionThatWasRead(t *testing.T) {
	h := fakehost.New(t)
	h.Answer = ok("{}")
	err := client.New().Patch(context.Background(), configMap(), client.MergeFromWithOptimisticLock(configMap()))
	if err == nil || len(h.Called) != 0 {
		t.Errorf("sent without a version: %v", err)
	}
}
