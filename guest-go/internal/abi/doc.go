// Package abi is the guest's side of the wasmop:controller world: it turns the host's events into
// running goroutines and what they do into imports.
//
// Everything is pulled: the guest asks for an event, makes a buffer of the announced length on its
// own heap and reads the payload into it. So the guest needs no cabi_realloc, which a garbage
// collected language cannot offer safely (an allocation may call the clock, and imports are
// forbidden while the host lowers a value).
//
// The files ending in _wasm.go, _go.go and _tinygo.go are the only ones that know they run in a
// sandbox. Elsewhere a Host value stands in for it, so that all of this can be tested natively.
package abi
