//go:build wasip1 && !tinygo

package abi

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	_ "unsafe" // for linkname
)

// In c-shared mode the runtime's own start runs the package initialisers but not main.
//
//go:linkname mainMain main.main
func mainMain()

//go:linkname timeSleepUntil runtime.timeSleepUntil
func timeSleepUntil() int64

//go:linkname nanotime runtime.nanotime
func nanotime() int64

//go:wasmexport wasmop:controller/guest@0.1.0#step
func step() {
	dispatch()
	quiesce()
}

// runnable counts the goroutines that could run now; with one thread the figure is exact.
var runnable = []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}}

// quiesce runs the other goroutines until none can run, then tells the host when the next timer is
// due. The clock is frozen during a step, so timers that are due fire in the first round and no
// others follow.
func quiesce() {
	for {
		runtime.Gosched()
		if metrics.Read(runnable); runnable[0].Value.Uint64() != 0 {
			continue
		}
		deadline := timeSleepUntil()
		if deadline == 1<<63-1 {
			return
		}
		if wait := deadline - nanotime(); wait > 0 {
			importPark(uint64(wait))
			return
		}
	}
}

func startMain() {
	go func() {
		mainMain()
		Log(Error, "wasmop", mainReturned, nil)
		os.Exit(1)
	}()
}

func stack() string { return string(debug.Stack()) }
