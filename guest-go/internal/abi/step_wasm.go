//go:build wasip1

package abi

import (
	"os"
	"runtime"
	_ "unsafe" // for linkname
)

const mainReturned = "main returned: it must end with mgr.Start(ctx), which returns only on failure"

// In c-shared mode the runtime's start function runs the package initializers but not main.
//
//go:linkname mainMain main.main
func mainMain()

//go:linkname nanotime runtime.nanotime
func nanotime() int64

// never is the deadline when no timer runs.
const never = 1<<63 - 1

// quiesce runs the other goroutines until none can run, and then passes the deadline of the next timer to the host. The
// clock does not advance during a step, so all timers that are due fire in the first round. step_go.go and
// step_tinygo.go read the runnable goroutines and the next timer from the runtime.
func quiesce() {
	for {
		runtime.Gosched()
		if anyRunnable() {
			continue
		}
		deadline := nextDeadline()
		if deadline == never {
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
