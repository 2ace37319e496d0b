//go:build wasip1

package abi

import (
	"os"
	"runtime"
	_ "unsafe" // for linkname
)

// In c-shared mode the runtime's own start runs the package initialisers but not main.
//
//go:linkname mainMain main.main
func mainMain()

//go:linkname nanotime runtime.nanotime
func nanotime() int64

// never is the deadline when no timer runs.
const never = 1<<63 - 1

// quiesce runs the other goroutines until none can run, then tells the host when the next timer is
// due. The clock is frozen during a step, so timers that are due fire in the first round and no
// others follow. What can run and when the next timer is due is the runtime's knowledge: see
// step_go.go and step_tinygo.go.
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
