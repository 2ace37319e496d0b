//go:build !wasip1

// Package fakehost is a host for tests. It answers a guest's calls with a function and lets a test wait for the guest's
// actions. It has no clock and no queue.
package fakehost

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wasmop/wasmop/guest-go/internal/abi"
)

// Host is an abi.Host.
type Host struct {
	// Answer answers a call immediately. Without it calls stay open, and the test sends the events.
	Answer func(abi.Request) abi.Response

	// The actions of the guest, in order. The channels are buffered, so a test can receive at any time.
	Registered chan string
	Called     chan Call
	Dropped    chan uint64
	Finished   chan Finished
	Keys       chan string
	Logged     chan Line

	mu     sync.Mutex
	events []abi.Event
	wake   chan struct{}

	registered atomic.Uint32
}

// Call is a request of the guest.
type Call struct {
	ID, Task uint64
	abi.Request
}

// Finished is a completed reconcile.
type Finished struct {
	Task uint64
	abi.Outcome
}

// Line is a line of the log.
type Line struct {
	Level           abi.Level
	Message, Fields string
}

// New installs a host for the duration of the test.
func New(t *testing.T) *Host {
	t.Helper()
	const enough = 1024
	h := &Host{
		Registered: make(chan string, enough), Called: make(chan Call, enough), Dropped: make(chan uint64, enough),
		Finished: make(chan Finished, enough), Keys: make(chan string, enough), Logged: make(chan Line, enough),
		wake: make(chan struct{}, 1),
	}
	abi.SetHost(h)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-h.wake:
				abi.Step()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
	return h
}

// Send delivers events in one step.
func (h *Host) Send(events ...abi.Event) {
	h.mu.Lock()
	h.events = append(h.events, events...)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Next is called by the guest.
func (h *Host) Next() (abi.Event, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) == 0 {
		return abi.Event{}, false
	}
	e := h.events[0]
	h.events = h.events[1:]
	return e, true
}

// Register is called by the guest.
func (h *Host) Register(spec string) uint32 {
	h.Registered <- spec
	return h.registered.Add(1) - 1
}

// Call is called by the guest.
func (h *Host) Call(id, task uint64, r abi.Request) {
	h.Called <- Call{id, task, r}
	if h.Answer != nil {
		answer := h.Answer(r)
		h.Send(abi.HeadEvent(id, answer.Status, answer.Headers), abi.BodyEvent(id, answer.Body), abi.EndEvent(id))
	}
}

// DropCall is called by the guest.
func (h *Host) DropCall(id uint64) { h.Dropped <- id }

// Done is called by the guest.
func (h *Host) Done(task uint64, o abi.Outcome) { h.Finished <- Finished{task, o} }

// Mapped is called by the guest.
func (h *Host) Mapped(_ uint64, keys string) { h.Keys <- keys }

// Log is called by the guest.
func (h *Host) Log(level abi.Level, _, message, fields string) {
	h.Logged <- Line{level, message, fields}
}
