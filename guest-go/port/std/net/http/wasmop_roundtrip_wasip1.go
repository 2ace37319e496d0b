package http

import (
	"errors"
	"fmt"
	"internal/wasmop/abi"
	"io"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// RoundTrip implements the [RoundTripper] interface by the host, which has the connections, does TLS and authenticates
// to the API server. The settings of t have no effect.
func (t *Transport) RoundTrip(req *Request) (*Response, error) {
	if req.URL == nil || req.URL.Host == "" {
		req.closeBody()
		return nil, errors.New("http: no Host in request URL")
	}
	content, err := wasmopContent(req)
	if err != nil {
		return nil, err
	}
	target := wasmopTarget(req.URL)
	if target != "" && req.Host != "" && req.Host != req.URL.Host {
		return nil, fmt.Errorf("wasmop: the Host %q of the request differs from that of its URL", req.Host)
	}
	if req.Header.Get("Upgrade") != "" {
		return nil, errors.New("wasmop: a controller's connection cannot be upgraded (exec, attach, port-forward and WebSocket do not work)")
	}
	ctx := req.Context()
	call, err := abi.Open(ctx, abi.Request{
		Target:  target,
		Method:  valueOrDefault(req.Method, "GET"),
		Path:    req.URL.RequestURI(),
		Headers: wasmopHeaderLines(req),
		Body:    content,
	})
	if err != nil {
		return nil, err
	}
	status, head, err := call.Head(ctx)
	if err != nil {
		return nil, wasmopFailure(target, err)
	}
	header := Header{}
	for line := range strings.SplitSeq(head, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			header.Add(name, strings.TrimSpace(value))
		}
	}
	length, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
	if err != nil {
		length = -1
	}
	return &Response{
		Status:        strconv.Itoa(status) + " " + StatusText(status),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          &wasmopBody{call.Body(ctx), target},
		ContentLength: length,
		Request:       req,
	}, nil
}

func wasmopContent(req *Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	defer req.Body.Close()
	return io.ReadAll(req.Body)
}

// wasmopTarget returns the target of a call: empty for the API server, else the external host.
func wasmopTarget(u *url.URL) string {
	if u.Scheme == "https" {
		switch strings.TrimSuffix(u.Host, ":443") {
		case abi.ClusterHost, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local":
			return ""
		}
	}
	return u.Scheme + "://" + u.Host
}

func wasmopHeaderLines(req *Request) string {
	var text strings.Builder
	oneLine := strings.NewReplacer("\n", " ", "\r", " ")
	for name, values := range req.Header {
		for _, value := range values {
			text.WriteString(name + ": " + oneLine.Replace(value) + "\n")
		}
	}
	if user := req.URL.User; user != nil && req.Header.Get("Authorization") == "" {
		password, _ := user.Password()
		text.WriteString("Authorization: Basic " + basicAuth(user.Username(), password) + "\n")
	}
	return text.String()
}

// wasmopFailure is the error of a request without a complete response. For the API server it is a connection that was
// reset, because clients of Kubernetes repeat such requests. It happens when the host restarts.
func wasmopFailure(target string, err error) error {
	var failed *abi.CallError
	if target != "" || !errors.As(err, &failed) {
		return err
	}
	return fmt.Errorf("%w: %s", syscall.ECONNRESET, failed.Reason)
}

type wasmopBody struct {
	io.ReadCloser
	target string
}

func (b *wasmopBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = wasmopFailure(b.target, err)
	}
	return n, err
}
