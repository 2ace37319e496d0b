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

// sleepingTask and timerNode begin like internal/task.Task and runtime.timerNode of TinyGo 0.42.
type sleepingTask struct {
	next *sleepingTask
	ptr  unsafe.Pointer
	data uint64 // ns after sleepQueueBaseTime, for the first one
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
	// wallAhead is how far the wall clock was ahead of the monotonic clock when it was last taken to be set.
	wallAhead = clockDifference()
)

func clockDifference() int64 { return int64(importNow() - importMonotonic()) }

// clockSet is by how much, in nanoseconds, the wall clock must have moved to have been set: the two clocks are not
// read at the same moment.
const clockSet = 1_000_000_000

// followWallClock moves what waits as far as the wall clock was set: TinyGo measures time by the wall clock, and a
// wait is to last as long as it was to, which the monotonic clock tells.
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

// step is a plain export, which runs on the system stack: it wakes one permanent goroutine and
// runs the scheduler until that says so. A //go:wasmexport would start a goroutine, with a new
// stack, in every step.
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
	default: // the step before did not end, which a trap has told the host
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

// stack is only of use where a panic can be recovered.
func stack() string { return "" }
