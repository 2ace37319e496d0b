// Package abi is the guest side of the world wasmop:controller. It turns the host's events into goroutines, and their
// requests into imports.
//
// The guest pulls events: it requests an event, allocates a buffer of its length on its own heap, and reads the payload
// into the buffer. So the guest needs no cabi_realloc, which a garbage-collected language cannot provide safely: an
// allocation may call the clock, and imports are forbidden while the host lowers a value.
//
// Only the files ending in _wasm.go, _go.go and _tinygo.go depend on the sandbox. Natively a Host value replaces it, so
// the rest can be tested natively.
package abi
