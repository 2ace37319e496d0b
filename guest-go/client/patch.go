package client

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/wasmop/wasmop/guest-go/internal/codec"
)

// The content types of patches.
const (
	ApplyPatchType = "application/apply-patch+yaml"
	MergePatchType = "application/merge-patch+json"
	JSONPatchType  = "application/json-patch+json"
)

// Patch describes a change of an object.
type Patch interface {
	// Type is the content type.
	Type() string
	// Data returns the body for the current state of the object.
	Data(obj Object) ([]byte, error)
}

// Apply is server-side apply. The object contains exactly the fields that this field manager owns. Controllers usually
// combine it with ForceOwnership.
var Apply Patch = applyPatch{}

type applyPatch struct{}

func (applyPatch) Type() string { return ApplyPatchType }

func (applyPatch) Data(obj Object) ([]byte, error) { return encode(obj) }

// RawPatch is a patch with the given body.
func RawPatch(contentType string, data []byte) Patch { return rawPatch{contentType, data} }

type rawPatch struct {
	contentType string
	data        []byte
}

func (p rawPatch) Type() string                    { return p.contentType }
func (p rawPatch) Data(obj Object) ([]byte, error) { return p.data, nil }

// MergeFrom is a JSON merge patch with the differences between original and the object passed to Patch. original is a
// copy from before the change; see DeepCopy.
func MergeFrom(original Object) Patch { return mergePatch{original: original} }

// MergeFromWithOptimisticLock is like MergeFrom, but fails with a conflict if the object has changed since original was
// read. Changes of lists, such as finalizers, need it, because a merge patch replaces whole lists. original must have a
// resource version.
func MergeFromWithOptimisticLock(original Object) Patch {
	return mergePatch{original: original, lock: true}
}

type mergePatch struct {
	original Object
	lock     bool
}

func (mergePatch) Type() string { return MergePatchType }

func (p mergePatch) Data(obj Object) ([]byte, error) {
	before, err := tree(p.original)
	if err != nil {
		return nil, err
	}
	after, err := tree(obj)
	if err != nil {
		return nil, err
	}
	patch := difference(before, after)
	if p.lock {
		version := p.original.GetObjectMeta().ResourceVersion
		if version == "" {
			// The API server would accept the patch without a lock.
			return nil, fmt.Errorf("%s %s: an optimistic lock requires the resource version of the original", obj.Resource().Kind, obj.GetName())
		}
		metadata, _ := patch["metadata"].(map[string]any)
		if metadata == nil {
			metadata = map[string]any{}
			patch["metadata"] = metadata
		}
		metadata["resourceVersion"] = version
	}
	return json.Marshal(patch)
}

func tree(obj Object) (map[string]any, error) {
	b, err := encode(obj)
	if err != nil {
		return nil, err
	}
	return codec.Tree(b)
}

// difference returns the RFC 7396 merge patch that turns before into after.
func difference(before, after map[string]any) map[string]any {
	patch := map[string]any{}
	for k := range before {
		if _, still := after[k]; !still {
			patch[k] = nil
		}
	}
	for k, now := range after {
		was, had := before[k]
		wasMap, ok1 := was.(map[string]any)
		nowMap, ok2 := now.(map[string]any)
		switch {
		case had && ok1 && ok2:
			if d := difference(wasMap, nowMap); len(d) > 0 {
				patch[k] = d
			}
		case !had || !reflect.DeepEqual(was, now):
			patch[k] = now
		}
	}
	return patch
}

// DeepCopy returns a copy that shares no memory with the object.
func DeepCopy[T any, P interface {
	*T
	Object
}](obj P) P {
	b, err := json.Marshal(obj)
	if err != nil {
		panic(fmt.Sprintf("wasmop: cannot encode %T as JSON: %v", obj, err))
	}
	copied := P(new(T))
	if err := codec.Unmarshal(b, copied); err != nil {
		panic(fmt.Sprintf("wasmop: %T cannot decode its own JSON: %v", obj, err))
	}
	return copied
}

// encode returns the object as JSON with its kind.
func encode(obj Object) ([]byte, error) {
	r := obj.Resource()
	t := obj.GetTypeMeta()
	t.APIVersion, t.Kind = r.APIVersion(), r.Kind
	b, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Kind, obj.GetName(), err)
	}
	return b, nil
}

// decode replaces the object. Fields that are missing in the JSON become zero.
func decode(b []byte, obj any) error {
	v := reflect.ValueOf(obj).Elem()
	fresh := reflect.New(v.Type())
	if err := codec.Unmarshal(b, fresh.Interface()); err != nil {
		return err
	}
	v.Set(fresh.Elem())
	return nil
}
