package abi

// kind is the discriminant of wasmop:controller/runtime.event-kind, in the order of the WIT file.
type kind uint8

const (
	kindNothing kind = iota
	kindStart
	kindReconcile
	kindMap
	kindHead
	kindBody
	kindEnd
	kindFailed
	kindCancel
)

// event has the memory layout of wasmop:controller/runtime.event: 24 bytes, 8-aligned.
type event struct {
	kind kind
	_    [7]byte
	id   uint64
	aux  uint32
	len  uint32
}

// Level is the discriminant of wasmop:controller/sys.level.
type Level uint32

// The levels of the host's log.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Request is an HTTP request to the API server or an external host.
type Request struct {
	// Target is empty for the API server, else a granted external host.
	Target string
	Method string
	// Path is the absolute path with its query.
	Path string
	// Headers are lines of "name: value\n". The host sends only accept and content-type to the API server.
	Headers string
	Body    []byte
}
