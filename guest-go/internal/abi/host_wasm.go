//go:build wasip1

package abi

import "unsafe"

// The canonical ABI of the imports, flattened by hand: strings and lists are pointer and length,
// an option is a discriminant and its payload, and a record that is returned goes to a return area.

//go:wasmimport wasmop:controller/runtime@0.1.0 next
//go:noescape
func importNext(ret unsafe.Pointer)

//go:wasmimport wasmop_rt read
//go:noescape
func importRead(dst unsafe.Pointer, n uint32, scratch unsafe.Pointer)

//go:wasmimport wasmop:controller/runtime@0.1.0 register
//go:noescape
func importRegister(spec unsafe.Pointer, specLen uint32) uint32

//go:wasmimport wasmop:controller/runtime@0.1.0 call
//go:noescape
func importCall(id, task uint64,
	target unsafe.Pointer, targetLen uint32, method unsafe.Pointer, methodLen uint32,
	path unsafe.Pointer, pathLen uint32, headers unsafe.Pointer, headersLen uint32,
	body unsafe.Pointer, bodyLen uint32)

//go:wasmimport wasmop:controller/runtime@0.1.0 drop-call
func importDropCall(id uint64)

//go:wasmimport wasmop:controller/runtime@0.1.0 done
//go:noescape
func importDone(task uint64, requeueSome uint32, requeueNs uint64, errSome uint32, err unsafe.Pointer, errLen uint32)

//go:wasmimport wasmop:controller/runtime@0.1.0 mapped
//go:noescape
func importMapped(task uint64, keys unsafe.Pointer, keysLen uint32)

//go:wasmimport wasmop:controller/runtime@0.1.0 enter
func importEnter(task uint64)

//go:wasmimport wasmop:controller/sys@0.1.0 log
//go:noescape
func importLog(level uint32, target unsafe.Pointer, targetLen uint32, message unsafe.Pointer, messageLen uint32, fields unsafe.Pointer, fieldsLen uint32)

//go:wasmimport wasmop:controller/sys@0.1.0 random
func importRandom() uint64

//go:wasmimport wasmop:controller/sys@0.1.0 park
func importPark(ns uint64)

// Return areas are globals, because a goroutine's stack may move, and is small in TinyGo.
var (
	eventArea event
	listArea  struct{ ptr, len uint32 }
)

func hostNext() event {
	importNext(unsafe.Pointer(&eventArea))
	return eventArea
}

func hostRead(n uint32) []byte {
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	importRead(unsafe.Pointer(unsafe.SliceData(b)), n, unsafe.Pointer(&listArea))
	return b
}

func hostRegister(spec string) uint32 { return importRegister(pointer(spec), length(spec)) }

func hostCall(id, task uint64, r Request) {
	importCall(id, task, pointer(r.Target), length(r.Target), pointer(r.Method), length(r.Method),
		pointer(r.Path), length(r.Path), pointer(r.Headers), length(r.Headers),
		unsafe.Pointer(unsafe.SliceData(r.Body)), uint32(len(r.Body)))
}

func hostDropCall(id uint64) { importDropCall(id) }

func hostDone(task uint64, o Outcome) {
	var requeueSome, errSome uint32
	var requeue uint64
	if o.RequeueAfter > 0 {
		requeueSome, requeue = 1, uint64(o.RequeueAfter)
	}
	message := ""
	if o.Err != nil {
		errSome, message = 1, o.Err.Error()
	}
	importDone(task, requeueSome, requeue, errSome, pointer(message), length(message))
}

func hostMapped(task uint64, keys string) { importMapped(task, pointer(keys), length(keys)) }

func hostEnter(task uint64) { importEnter(task) }

func hostLog(level Level, target, message, fields string) {
	importLog(uint32(level), pointer(target), length(target), pointer(message), length(message), pointer(fields), length(fields))
}

// Random returns 64 bits from the host's cryptographic generator.
func Random() uint64 { return importRandom() }

func pointer(s string) unsafe.Pointer { return unsafe.Pointer(unsafe.StringData(s)) }
func length(s string) uint32          { return uint32(len(s)) }
