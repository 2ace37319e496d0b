//go:build !wasip1

package abi

import (
	"math/rand/v2"
	"sync"
)

// Host stands in for the imports where there is no sandbox: natively, that is in tests.
type Host interface {
	// Next returns the next event with its payload. ok is false if there is none.
	Next() (e Event, ok bool)
	Register(spec string) uint32
	Call(id, task uint64, r Request)
	DropCall(id uint64)
	Done(task uint64, o Outcome)
	Mapped(task uint64, keys string)
	Log(level Level, target, message, fields string)
}

// Event is an event with its payload, built by a Host.
type Event struct {
	event
	payload []byte
}

// The events that a Host can deliver; see wit/wasmop.wit.

// StartEvent starts an instance. Natively it does not run main.
func StartEvent(payload string) Event { return newEvent(kindStart, 0, 0, []byte(payload)) }

// ReconcileEvent requests a reconcile of key.
func ReconcileEvent(task uint64, controller uint32, key string) Event {
	return newEvent(kindReconcile, task, controller, []byte(key))
}

// MapEvent requests the keys that an object belongs to.
func MapEvent(task uint64, controller, watch uint32, object string) Event {
	return newEvent(kindMap, task, controller<<16|watch, []byte(object))
}

// GoneEvent requests the keys that a deleted object belonged to.
func GoneEvent(task uint64, controller, watch uint32, object string) Event {
	return MapEvent(task, controller, watch|mapGone, object)
}

// HeadEvent starts a response.
func HeadEvent(call uint64, status int, headers string) Event {
	return newEvent(kindHead, call, uint32(status), []byte(headers))
}

// BodyEvent continues a response.
func BodyEvent(call uint64, chunk []byte) Event { return newEvent(kindBody, call, 0, chunk) }

// EndEvent completes a response.
func EndEvent(call uint64) Event { return newEvent(kindEnd, call, 0, nil) }

// FailedEvent ends a call without a complete response.
func FailedEvent(call uint64, why string) Event { return newEvent(kindFailed, call, 0, []byte(why)) }

// CancelEvent ends a task early.
func CancelEvent(task uint64) Event { return newEvent(kindCancel, task, 0, nil) }

func newEvent(k kind, id uint64, aux uint32, payload []byte) Event {
	return Event{event{kind: k, id: id, aux: aux, len: uint32(len(payload))}, payload}
}

var (
	hostMu  sync.Mutex
	host    Host
	payload []byte // of the latest event of hostNext; used only in Step
)

// SetHost installs a Host and discards all state of the previous one.
func SetHost(h Host) {
	hostMu.Lock()
	host = h
	hostMu.Unlock()
	calls.clear()
	tasks.clear()
	handlersMu.Lock()
	handlers = nil
	handlersMu.Unlock()
}

// Step handles the pending events of the Host. Unlike in the sandbox it does not wait until no goroutine can run,
// because native goroutines run independently.
func Step() { dispatch() }

func current() Host {
	hostMu.Lock()
	defer hostMu.Unlock()
	if host == nil {
		panic("wasmop: this program is a guest: build it with `wasmop build` and run the package with `wasmop run`")
	}
	return host
}

func hostNext() event {
	e, ok := current().Next()
	if !ok {
		return event{}
	}
	payload = e.payload
	return e.event
}

func hostRead(n uint32) []byte { return payload[:n:n] }

func hostRegister(spec string) uint32      { return current().Register(spec) }
func hostCall(id, task uint64, r Request)  { current().Call(id, task, r) }
func hostDropCall(id uint64)               { current().DropCall(id) }
func hostDone(task uint64, o Outcome)      { current().Done(task, o) }
func hostMapped(task uint64, keys string)  { current().Mapped(task, keys) }
func hostEnter(uint64)                     {}
func hostLog(l Level, target, m, f string) { current().Log(l, target, m, f) }
func startMain()                           {}
func stack() string                        { return "" }

// Random returns 64 random bits.
func Random() uint64 { return rand.Uint64() }
