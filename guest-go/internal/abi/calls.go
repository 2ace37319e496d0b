package abi

import (
	"context"
	"io"
	"sync"
)

var calls table[*Call]

var (
	callIDMu sync.Mutex
	callID   uint64
)

// Response is a complete response.
type Response struct {
	Status int
	// Headers are lines "name: value\n".
	Headers string
	Body    []byte
}

// CallError is the error of a request without a complete response, for example because the host was restarted. It is
// unknown whether the server has processed the request.
type CallError struct{ Reason string }

func (e *CallError) Error() string { return "request failed: " + e.Reason }

// Call is an open request. It assembles the response from its head, body chunks and end.
//
// Only the goroutine that opened it reads from it, and only the step loop adds to it.
type Call struct {
	id, task uint64
	// changed holds a token if something was added since the last read.
	changed chan struct{}
	// finished is for Post. The step loop calls it instead of waking a reader.
	finished func(Response, error)

	mu      sync.Mutex
	status  int
	headers string
	chunks  [][]byte
	ended   bool
	err     error
}

// Open starts a request for the task that ctx belongs to, and returns immediately.
func Open(ctx context.Context, r Request) (*Call, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return open(&Call{task: taskOf(ctx), changed: make(chan struct{}, 1)}, r), nil
}

// Do sends a request and waits for the complete response.
func Do(ctx context.Context, r Request) (Response, error) {
	c, err := Open(ctx, r)
	if err != nil {
		return Response{}, err
	}
	return c.Rest(ctx)
}

// Rest waits for the complete response, without the chunks that Next has returned.
func (c *Call) Rest(ctx context.Context) (Response, error) {
	if err := c.wait(ctx, func() bool { return c.ended }); err != nil {
		return Response{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.response(), c.err
}

// Post sends a request without waiting. It calls finished, which must not block, when the response is complete or the
// request has failed.
func Post(r Request, finished func(Response, error)) { open(&Call{finished: finished}, r) }

func open(c *Call, r Request) *Call {
	callIDMu.Lock()
	callID++
	c.id = callID
	callIDMu.Unlock()
	calls.put(c.id, c)
	hostCall(c.id, c.task, r)
	return c
}

// Head waits for the head of the response.
func (c *Call) Head(ctx context.Context) (status int, headers string, err error) {
	if err := c.wait(ctx, func() bool { return c.status != 0 || c.ended }); err != nil {
		return 0, "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status == 0 {
		return 0, "", c.err
	}
	return c.status, c.headers, nil
}

// Next waits for a chunk of the body. After the last chunk it returns io.EOF.
func (c *Call) Next(ctx context.Context) ([]byte, error) {
	if err := c.wait(ctx, func() bool { return len(c.chunks) > 0 || c.ended }); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.chunks) > 0 {
		chunk := c.chunks[0]
		c.chunks[0] = nil
		c.chunks = c.chunks[1:]
		return chunk, nil
	}
	if c.err != nil {
		return nil, c.err
	}
	return nil, io.EOF
}

// Close drops the call if it has not ended yet.
func (c *Call) Close() {
	if _, open := calls.take(c.id); open {
		hostDropCall(c.id)
	}
}

// Body returns the body. Reading blocks the goroutine until data arrives or ctx ends.
func (c *Call) Body(ctx context.Context) io.ReadCloser { return &body{ctx: ctx, call: c} }

type body struct {
	ctx  context.Context
	call *Call
	rest []byte
}

func (b *body) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		var err error
		if b.rest, err = b.call.Next(b.ctx); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) Close() error {
	b.call.Close()
	return nil
}

// wait parks the goroutine until ready, or until ctx ends, which drops the call. If both happen in the same step, the
// end of ctx takes precedence: after a trap, the host redelivers the events of the step preceded by the cancellation of
// the task that trapped, and this task must not run the same code again.
func (c *Call) wait(ctx context.Context, ready func() bool) error {
	for {
		if ctx.Err() != nil {
			c.Close()
			return context.Cause(ctx)
		}
		c.mu.Lock()
		ok := ready()
		c.mu.Unlock()
		if ok {
			return nil
		}
		hostEnter(0) // the task of the goroutine that runs next is unknown here
		select {
		case <-c.changed:
		case <-ctx.Done():
		}
		hostEnter(c.task)
	}
}

// deliver adds an event of the response. It never blocks.
func deliver(e event, payload []byte) {
	c, ok := calls.get(e.id)
	if !ok {
		return // the guest dropped the call before the host sent the event
	}
	c.mu.Lock()
	switch e.kind {
	case kindHead:
		c.status, c.headers = int(e.aux), string(payload)
	case kindBody:
		c.chunks = append(c.chunks, payload)
	case kindEnd:
		c.ended = true
	case kindFailed:
		c.ended, c.err = true, &CallError{Reason: string(payload)}
	}
	ended := c.ended
	c.mu.Unlock()
	if ended {
		calls.take(e.id)
	}
	if c.finished != nil {
		if ended {
			c.finished(c.response(), c.err)
		}
		return
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// response joins the chunks and releases them.
func (c *Call) response() Response {
	var body []byte
	if len(c.chunks) == 1 {
		body = c.chunks[0] // the common case, without a copy
	} else {
		size := 0
		for _, chunk := range c.chunks {
			size += len(chunk)
		}
		body = make([]byte, 0, size)
		for i, chunk := range c.chunks {
			body = append(body, chunk...)
			c.chunks[i] = nil
		}
	}
	c.chunks = nil
	return Response{Status: c.status, Headers: c.headers, Body: body}
}
