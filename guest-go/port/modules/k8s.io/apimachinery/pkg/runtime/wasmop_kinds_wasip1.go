package runtime

import (
	"reflect"
	"sync"
	"unsafe"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

//go:linkname typelinks reflect.typelinks
func typelinks() (sections []unsafe.Pointer, offsets [][]int32)

// linkedType names a type of the program.
type linkedType struct{ path, name string }

var (
	// kindsLock guards the other two.
	kindsLock sync.Mutex
	// linkedObjects has the types of objects that the linker kept because the program uses them. Nil before first use.
	linkedObjects map[linkedType]reflect.Type
	// leftOut has the kinds without a linked type.
	leftOut map[schema.GroupVersionKind]bool
)

// WasmopAddKinds registers those kinds of a group version in s whose types are part of the program. Kinds and types
// have the same names. path is the package of the types.
//
// A call of AddKnownTypes with a value of each type would make the linker keep all types and their methods. listOf
// returns an empty list for an object, or nil: informers look up the list of a kind by name.
func WasmopAddKinds(s *Scheme, gv schema.GroupVersion, path string, listOf func(Object) Object, names ...string) {
	kindsLock.Lock()
	defer kindsLock.Unlock()
	if linkedObjects == nil {
		linkedObjects = findLinkedObjects()
		leftOut = map[schema.GroupVersionKind]bool{}
	}
	// Without types, it only records the version.
	s.AddKnownTypes(gv)
	for _, name := range names {
		t, linked := linkedObjects[linkedType{path, name}]
		if !linked {
			leftOut[gv.WithKind(name)] = true
			continue
		}
		object := reflect.New(t).Interface().(Object)
		s.AddKnownTypes(gv, object)
		if list := listOf(object); list != nil {
			s.AddKnownTypes(gv, list)
		}
	}
}

// findLinkedObjects finds all T of the program for which the linker kept *T as an Object.
//
// The linker drops the methods of types that are never converted to an interface. Such types do not implement Object.
func findLinkedObjects() map[linkedType]reflect.Type {
	found := map[linkedType]reflect.Type{}
	object := reflect.TypeFor[Object]()
	sections, offsets := typelinks()
	for i, section := range sections {
		for _, offset := range offsets[i] {
			// A reflect.Type is an interface of a *rtype, which differs only in its second word.
			t := object
			(*[2]unsafe.Pointer)(unsafe.Pointer(&t))[1] = unsafe.Add(section, offset)
			if t.Kind() == reflect.Pointer && t.Elem().Name() != "" && t.Implements(object) {
				found[linkedType{t.Elem().PkgPath(), t.Elem().Name()}] = t.Elem()
			}
		}
	}
	return found
}

// wasmopHint completes the error about a kind that is not registered.
func wasmopHint(kind schema.GroupVersionKind) string {
	kindsLock.Lock()
	defer kindsLock.Unlock()
	if !leftOut[kind] {
		return ""
	}
	return "; wasmop left the kind out, since the program never mentions its type: " +
		"set `trim = false` under [build] in wasmop.toml"
}
