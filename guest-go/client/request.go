package client

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
)

// Request is a request to the API server or to an external host. An external host must be listed under external-hosts
// in wasmop.toml, and the owner must grant it.
type Request struct {
	// Target is empty for the API server. For an external host it is a URL such as "https://api.example.com:8443".
	Target string
	Method string
	// Path is the absolute path with its query.
	Path        string
	ContentType string
	Accept      string
	// Header contains additional header fields, which are sent only to external hosts.
	Header map[string]string
	Body   []byte
}

// Response is a response with a streaming body, such as pod logs or a watch.
type Response struct {
	Status int
	// Header contains the header fields with names in lower case.
	Header map[string]string
	// Body must be closed. Reading blocks the goroutine until data arrives.
	Body io.ReadCloser
}

func (hostClient) Do(ctx context.Context, r Request) (*Response, error) {
	headers := ""
	if r.ContentType != "" {
		headers += "content-type: " + r.ContentType + "\n"
	}
	if r.Accept != "" {
		headers += "accept: " + r.Accept + "\n"
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		value := r.Header[name]
		if strings.ContainsAny(name, "\n:") || strings.Contains(value, "\n") {
			return nil, fmt.Errorf("the header field %q is malformed", name)
		}
		headers += name + ": " + value + "\n"
	}
	call, err := abi.Open(ctx, abi.Request{Target: r.Target, Method: r.Method, Path: r.Path, Headers: headers, Body: r.Body})
	if err != nil {
		return nil, err
	}
	status, head, err := call.Head(ctx)
	if err != nil {
		return nil, err
	}
	return &Response{Status: status, Header: parseHeaders(head), Body: call.Body(ctx)}, nil
}

func parseHeaders(lines string) map[string]string {
	headers := map[string]string{}
	for line := range strings.SplitSeq(lines, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			headers[strings.ToLower(name)] = strings.TrimSpace(value)
		}
	}
	return headers
}

// maxRetries is the maximum number of retries that the API server can request with Retry-After, as in client-go.
const maxRetries = 10

// doWithRetries sends a request and reads the complete response.
func doWithRetries(ctx context.Context, r abi.Request) (abi.Response, error) {
	for attempt := 1; ; attempt++ {
		answer, err := abi.Do(ctx, r)
		if err != nil || !isRetryable(answer.Status, attempt) {
			return answer, err
		}
		again, err := waitRetryAfter(ctx, answer.Headers)
		if err != nil || !again {
			return answer, err
		}
	}
}

// openWithRetries sends a request and returns when the response begins. An error status is an error.
func openWithRetries(ctx context.Context, r abi.Request) (*abi.Call, error) {
	for attempt := 1; ; attempt++ {
		call, err := abi.Open(ctx, r)
		if err != nil {
			return nil, err
		}
		status, headers, err := call.Head(ctx)
		if err != nil {
			return nil, err
		}
		if status < 300 {
			return call, nil
		}
		answer, err := call.Rest(ctx)
		if err != nil {
			return nil, err
		}
		again := false
		if isRetryable(status, attempt) {
			if again, err = waitRetryAfter(ctx, headers); err != nil {
				return nil, err
			}
		}
		if !again {
			return nil, apierrors.FromResponse(status, answer.Body, r.Method+" "+r.Path)
		}
	}
}

// isRetryable reports whether a request may be retried if the response has Retry-After: "too many requests" and server
// errors.
func isRetryable(status, attempt int) bool {
	return attempt <= maxRetries && (status == 429 || status >= 500)
}

// waitRetryAfter waits as long as the response requests. It reports whether it waited.
func waitRetryAfter(ctx context.Context, headers string) (bool, error) {
	seconds, err := strconv.Atoi(parseHeaders(headers)["retry-after"])
	if err != nil {
		return false, nil
	}
	return true, abi.Sleep(ctx, time.Duration(seconds)*time.Second)
}
