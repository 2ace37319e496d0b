//go:build wasip1 && !tinygo

package abi

import (
	"runtime/debug"
	"runtime/metrics"
	_ "unsafe" // for linkname
)

//go:linkname timeSleepUntil runtime.timeSleepUntil
func timeSleepUntil() int64

//go:wasmexport wasmop:controller/guest@0.1.0#step
func step() {
	dispatch()
	quiesce()
}

// runnable returns the number of runnable goroutines. With a single thread it is exact.
var runnable = []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}}

func anyRunnable() bool {
	metrics.Read(runnable)
	return runnable[0].Value.Uint64() != 0
}

// cleanTimers removes stopped timers from the runtime's heap, where nextDeadline would count them. The standard library
// has no such function; `wasmop build` adds one for programs without the SDK.
var cleanTimers = func() {}

func nextDeadline() int64 {
	cleanTimers()
	return timeSleepUntil()
}

func stack() string { return string(debug.Stack()) }
