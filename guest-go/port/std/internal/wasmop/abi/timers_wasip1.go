package abi

import _ "unsafe" // for linkname

//go:linkname runtimeCleanTimers runtime.wasmopCleanTimers
func runtimeCleanTimers()

func init() { cleanTimers = runtimeCleanTimers }
