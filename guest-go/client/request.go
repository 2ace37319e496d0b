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

// Request is any request to the API server, or to an external host that the package asks for
// (external-hosts in wasmop.toml) and was granted.
type Request struct {
	// Target is empty for the cluster's API server, or like "https://api.example.com:8443".
	Target string
	Method string
	// Path is absolute, with query.
	Path        string
	ContentType string
	Accept      string
	// Header holds further header fields. They are sent to external hosts only.
	Header map[string]string
	Body   []byte
}

// Response is an answer whose body is still to be read: pod logs or a watch, for example.
type Response struct {
	Status int
	// Header holds the header fields, names in lower case.
	Header map[string]string
	// Body must be closed; reading it blocks the goroutine until more arrives.
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

// maxPatience is how often a request is repeated when the API server asks for it, as in client-go.
const maxPatience = 10

// doPatiently makes a request and reads the whole answer.
func doPatiently(ctx context.Context, r abi.Request) (abi.Response, error) {
	for attempt := 1; ; attempt++ {
		answer, err := abi.Do(ctx, r)
		if err != nil || !isAgain(answer.Status, attempt) {
			return answer, err
		}
		again, err := waitAsAsked(ctx, answer.Headers)
		if err != nil || !again {
			return answer, err
		}
	}
}

// openPatiently makes a request and returns when its answer begins. A refusal is an error.
func openPatiently(ctx context.Context, r abi.Request) (*abi.Call, error) {
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
		if isAgain(status, attempt) {
			if again, err = waitAsAsked(ctx, headers); err != nil {
				return nil, err
			}
		}
		if !again {
			return nil, apierrors.FromResponse(status, answer.Body, r.Method+" "+r.Path)
		}
	}
}

// isAgain says whether a request is repeated if the answer says when: it is "too many requests" or a server error.
func isAgain(status, attempt int) bool {
	return attempt <= maxPatience && (status == 429 || status >= 500)
}

// waitAsAsked waits as long as an answer asks, and says whether it did.
func waitAsAsked(ctx context.Context, headers string) (bool, error) {
	seconds, err := strconv.Atoi(parseHeaders(headers)["retry-after"])
	if err != nil {
		return false, nil
	}
	return true, abi.Sleep(ctx, time.Duration(seconds)*time.Second)
}
