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

var (
	bell     = make(chan struct{}, 1)
	stepping bool
)

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
