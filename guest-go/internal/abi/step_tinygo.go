//go:build wasip1 && tinygo

package abi

import (
	"unsafe"
)

//go:linkname runScheduler runtime.scheduler
func runScheduler(returnAtDeadlock bool)

//go:linkname schedulerRunQueue runtime.schedulerRunQueue
func schedulerRunQueue() *struct{ head, tail unsafe.Pointer }

//go:extern runtime.schedulerExit
var schedulerExit bool

// sleepingTask and timerNode are prefixes of internal/task.Task and runtime.timerNode in TinyGo 0.42.
type sleepingTask struct {
	next *sleepingTask
	ptr  unsafe.Pointer
	data uint64 // in the first task: nanoseconds after sleepQueueBaseTime
}

type timerNode struct {
	next  *timerNode
	timer *struct{ when int64 }
}

//go:extern runtime.sleepQueue
var sleepQueue *sleepingTask

//go:extern runtime.sleepQueueBaseTime
var sleepQueueBaseTime int64

//go:extern runtime.timerQueue
var timerQueue *timerNode

//go:wasmimport wasmop:controller/sys@0.1.0 now
func importNow() uint64

//go:wasmimport wasmop:controller/sys@0.1.0 monotonic
func importMonotonic() uint64

var (
	bell     = make(chan struct{}, 1)
	stepping bool
	// wallAhead is the difference of wall clock and monotonic clock after the last detected clock change.
	wallAhead = clockDifference()
)

func clockDifference() int64 { return int64(importNow() - importMonotonic()) }

// clockSet is the minimum change of the difference, in nanoseconds, that counts as a clock change. The two clocks are
// not read at the same moment.
const clockSet = 1_000_000_000

// followWallClock shifts all timers by a change of the wall clock. TinyGo's timers use the wall clock, but waits must
// have their intended length in monotonic time.
func followWallClock() {
	now := clockDifference()
	moved := now - wallAhead
	if -clockSet < moved && moved < clockSet {
		return
	}
	wallAhead = now
	sleepQueueBaseTime += moved
	for node := timerQueue; node != nil; node = node.next {
		node.timer.when += moved
	}
}

// step is a plain export, which runs on the system stack. It wakes a permanent goroutine and runs the scheduler until
// this goroutine ends it. A //go:wasmexport would start a goroutine with a new stack in every step.
//
//export wasmop:controller/guest@0.1.0#step
func step() {
	if !stepping {
		stepping = true
		go stepper()
	}
	followWallClock()
	select {
	case bell <- struct{}{}:
	default: // the previous step trapped
	}
	runScheduler(true)
}

func stepper() {
	for range bell {
		dispatch()
		quiesce()
		schedulerExit = true
	}
}

func anyRunnable() bool { return schedulerRunQueue().head != nil }

func nextDeadline() int64 {
	deadline := int64(never)
	if sleepQueue != nil {
		deadline = sleepQueueBaseTime + int64(sleepQueue.data)
	}
	if timerQueue != nil {
		deadline = min(deadline, timerQueue.timer.when)
	}
	return deadline
}

// stack is needed only if a panic can be recovered.
func stack() string { return "" }
