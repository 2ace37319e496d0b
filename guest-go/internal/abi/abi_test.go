package abi_test

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/fakehost"
)

// handler is a Handler made of functions.
type handler struct {
	reconcile func(context.Context, string) abi.Outcome
	mapKeys   func(context.Context, int, []byte, bool) []string
}

func (h handler) Reconcile(ctx context.Context, key string) abi.Outcome {
	return h.reconcile(ctx, key)
}

func (h handler) Map(ctx context.Context, w int, object []byte, gone bool) []string {
	return h.mapKeys(ctx, w, object, gone)
}

func TestTheChunksOfAResponseAreJoined(t *testing.T) {
	h := fakehost.New(t)
	go func() {
		c := <-h.Called
		h.Send(abi.HeadEvent(c.ID, 200, "content-type: text/plain\n"), abi.BodyEvent(c.ID, []byte("ab")))
		h.Send(abi.BodyEvent(c.ID, []byte("cd")), abi.BodyEvent(c.ID, []byte("e")), abi.EndEvent(c.ID))
	}()
	answer, err := abi.Do(context.Background(), abi.Request{Method: "GET", Path: "/x"})
	if err != nil || answer.Status != 200 || string(answer.Body) != "abcde" || answer.Headers != "content-type: text/plain\n" {
		t.Fatalf("%+v, %v", answer, err)
	}
}

func TestAStreamIsReadChunkByChunkUntilItsEnd(t *testing.T) {
	h := fakehost.New(t)
	ctx := context.Background()
	call, err := abi.Open(ctx, abi.Request{})
	if err != nil {
		t.Fatal(err)
	}
	id := (<-h.Called).ID
	h.Send(abi.HeadEvent(id, 200, ""))
	if status, _, err := call.Head(ctx); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	for _, piece := range []string{"one", "two"} {
		h.Send(abi.BodyEvent(id, []byte(piece)))
		if got, err := call.Next(ctx); string(got) != piece || err != nil {
			t.Fatal(string(got), err)
		}
	}
	h.Send(abi.EndEvent(id))
	if _, err := call.Next(ctx); err != io.EOF {
		t.Fatal(err)
	}
	call.Close()
	if len(h.Dropped) != 0 {
		t.Fatal("a call that had ended was dropped")
	}
}

func TestACallThatFailsAfterItsHeadIsAnError(t *testing.T) {
	h := fakehost.New(t)
	go func() {
		c := <-h.Called
		h.Send(abi.HeadEvent(c.ID, 200, ""), abi.BodyEvent(c.ID, []byte("half")), abi.FailedEvent(c.ID, "connection reset"))
	}()
	_, err := abi.Do(context.Background(), abi.Request{})
	var failed *abi.CallError
	if !errors.As(err, &failed) || failed.Reason != "connection reset" {
		t.Fatal(err)
	}
}

func TestEndingTheContextDropsTheCall(t *testing.T) {
	h := fakehost.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	var id uint64
	go func() {
		id = (<-h.Called).ID
		cancel()
	}()
	if _, err := abi.Do(ctx, abi.Request{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if dropped := <-h.Dropped; dropped != id {
		t.Fatal(dropped, id)
	}
	h.Send(abi.HeadEvent(id, 200, ""), abi.EndEvent(id)) // late, after the call was dropped
	if _, err := abi.Do(ctx, abi.Request{}); !errors.Is(err, context.Canceled) || len(h.Called) != 0 {
		t.Fatal("a call was made for a context that has ended", err)
	}
}

func TestAReconcileReportsItsOutcome(t *testing.T) {
	h := fakehost.New(t)
	failure := errors.New("no")
	abi.Register("{}", handler{reconcile: func(_ context.Context, key string) abi.Outcome {
		switch key {
		case "a/wait":
			return abi.Outcome{RequeueAfter: time.Minute}
		case "a/fail":
			return abi.Outcome{Err: failure}
		}
		return abi.Outcome{}
	}})
	for key, want := range map[string]abi.Outcome{"a/ok": {}, "a/wait": {RequeueAfter: time.Minute}, "a/fail": {Err: failure}} {
		h.Send(abi.ReconcileEvent(7, 0, key))
		if got := <-h.Finished; got.Task != 7 || got.Outcome != want {
			t.Errorf("%s: %+v", key, got)
		}
	}
}

func TestAPanicOrGoexitFailsOnlyItsReconcile(t *testing.T) {
	h := fakehost.New(t)
	abi.Register("{}", handler{reconcile: func(_ context.Context, key string) abi.Outcome {
		switch key {
		case "panic":
			panic("oh")
		case "goexit":
			runtime.Goexit()
		}
		return abi.Outcome{}
	}})
	for key, want := range map[string]string{"panic": "panic: oh", "goexit": "the reconciler ended its goroutine"} {
		h.Send(abi.ReconcileEvent(1, 0, key))
		if got := <-h.Finished; got.Err == nil || got.Err.Error() != want {
			t.Errorf("%s: %+v", key, got)
		}
	}
	if line := <-h.Logged; line.Level != abi.Error || line.Message != "panic: oh" {
		t.Errorf("%+v", line)
	}
	h.Send(abi.ReconcileEvent(2, 0, "fine"))
	if got := <-h.Finished; got.Err != nil {
		t.Error(got)
	}
}

func TestACancelledReconcileEndsItsCallsAndReportsNothing(t *testing.T) {
	h := fakehost.New(t)
	ended := make(chan error, 1)
	abi.Register("{}", handler{reconcile: func(ctx context.Context, key string) abi.Outcome {
		if key != "other" {
			_, err := abi.Do(ctx, abi.Request{})
			ended <- err
		}
		return abi.Outcome{}
	}})
	h.Send(abi.ReconcileEvent(5, 0, "x"))
	call := <-h.Called
	if call.Task != 5 {
		t.Error("the call does not name its task:", call.Task)
	}
	h.Send(abi.CancelEvent(5))
	if err := <-ended; err != abi.ErrCancelled {
		t.Error(err)
	}
	if id := <-h.Dropped; id != call.ID {
		t.Error(id)
	}
	h.Send(abi.ReconcileEvent(6, 0, "other"))
	if got := <-h.Finished; got.Task != 6 {
		t.Error("a cancelled reconcile reported an outcome")
	}
}

func TestACancellationTakesPrecedenceOverAResponseInTheSameStep(t *testing.T) {
	h := fakehost.New(t)
	ended := make(chan error, 1)
	abi.Register("{}", handler{reconcile: func(ctx context.Context, key string) abi.Outcome {
		_, err := abi.Do(ctx, abi.Request{})
		ended <- err
		return abi.Outcome{}
	}})
	for task := range uint64(50) {
		h.Send(abi.ReconcileEvent(task, 0, "x"))
		id := (<-h.Called).ID
		h.Send(abi.CancelEvent(task), abi.HeadEvent(id, 200, ""), abi.EndEvent(id))
		if err := <-ended; err != abi.ErrCancelled {
			t.Fatal(err)
		}
	}
}

func TestMapReturnsKeys(t *testing.T) {
	h := fakehost.New(t)
	abi.Register("{}", handler{})
	abi.Register("{}", handler{mapKeys: func(_ context.Context, watch int, object []byte, gone bool) []string {
		if watch != 2 || string(object) != "{}" {
			t.Error(watch, string(object))
		}
		if gone {
			return []string{"gone"}
		}
		return []string{"a/b", "c"}
	}})
	h.Send(abi.MapEvent(9, 1, 2, "{}"))
	if keys := <-h.Keys; keys != "a/b\nc" {
		t.Error(keys)
	}
	h.Send(abi.GoneEvent(10, 1, 2, "{}"))
	if keys := <-h.Keys; keys != "gone" {
		t.Error(keys)
	}
}

func TestEachControllerReceivesItsEvents(t *testing.T) {
	h := fakehost.New(t)
	for _, name := range []string{"first", "second"} {
		abi.Register("{}", handler{reconcile: func(context.Context, string) abi.Outcome {
			return abi.Outcome{Err: errors.New(name)}
		}})
	}
	for index, want := range []string{"first", "second", "no such controller is registered"} {
		h.Send(abi.ReconcileEvent(1, uint32(index), "k"))
		if got := <-h.Finished; got.Err.Error() != want {
			t.Error(index, got.Err)
		}
	}
}

func TestManyConcurrentReconcilesAndCalls(t *testing.T) {
	h := fakehost.New(t)
	h.Answer = func(r abi.Request) abi.Response { return abi.Response{Status: 200, Body: []byte(r.Path)} }
	abi.Register("{}", handler{reconcile: func(ctx context.Context, key string) abi.Outcome {
		for range 5 {
			answer, err := abi.Do(ctx, abi.Request{Path: key})
			if err != nil || string(answer.Body) != key {
				return abi.Outcome{Err: errors.New("got " + string(answer.Body))}
			}
		}
		return abi.Outcome{}
	}})
	for i := range 100 {
		h.Send(abi.ReconcileEvent(uint64(i), 0, strings.Repeat("k", i+1)))
	}
	for range 100 {
		if got := <-h.Finished; got.Err != nil {
			t.Error(got)
		}
	}
}

func TestTheStartEventSetsNameEnvironmentArgumentsAndLogLevel(t *testing.T) {
	h := fakehost.New(t)
	t.Setenv("WASMOP_TEST", "")
	done := make(chan struct{})
	abi.Register("{}", handler{reconcile: func(context.Context, string) abi.Outcome { close(done); return abi.Outcome{} }})
	args, level := os.Args, ""
	defer func() { os.Args, abi.OnLogLevel = args, nil }()
	abi.OnLogLevel = func(l string) { level = l }
	h.Send(abi.StartEvent(`{"name":"web","env":{"WASMOP_TEST":"1"},"args":["-v",""],"logLevel":"debug"}`), abi.ReconcileEvent(1, 0, "k"))
	<-done
	if abi.Name() != "web" || os.Getenv("WASMOP_TEST") != "1" || level != "debug" {
		t.Error(abi.Name(), os.Getenv("WASMOP_TEST"), level)
	}
	if want := []string{args[0], "-v", ""}; !slices.Equal(os.Args, want) {
		t.Errorf("got %q, want %q", os.Args, want)
	}
}
