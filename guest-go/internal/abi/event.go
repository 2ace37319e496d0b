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

// Request is one HTTP-shaped request to the API server.
type Request struct {
	// Target is empty for the cluster's API server, else an external host the package was granted.
	Target string
	Method string
	// Path is absolute and contains the query.
	Path string
	// Headers are lines "name: value\n". The host sends accept and content-type, nothing else.
	Headers string
	Body    []byte
}
