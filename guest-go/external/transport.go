// Package external lets net/http's client reach external hosts: those that the package asks for with
// external-hosts in wasmop.toml and that its owner grants.
//
//	client := &http.Client{Transport: external.Transport{}}
//
// It needs mainline Go; TinyGo has no net/http on wasm, where [client.Client]'s Do does the same.
// The host follows no redirects. http.Client does, and each of its steps is a request that must be
// granted like any other; with CheckRedirect it stays where it is.
//
// [client.Client]: https://pkg.go.dev/github.com/wasmop/wasmop/guest-go/client#Client
package external

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/wasmop/wasmop/guest-go/internal/abi"
)

// Transport is an [http.RoundTripper] whose requests are made by the host. The zero value is ready.
// A request whose context is that of a reconcile ends with it.
type Transport struct{}

var _ http.RoundTripper = Transport{}

// RoundTrip sends all of the request's header fields but for those of the connection and User-Agent,
// which the host writes.
func (Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	var content []byte
	if r.Body != nil {
		var err error
		content, err = io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	if r.Host != "" && r.Host != r.URL.Host {
		return nil, fmt.Errorf("external: the Host %q of the request is not that of its URL", r.Host)
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	call, err := abi.Open(ctx, abi.Request{
		Target:  r.URL.Scheme + "://" + r.URL.Host,
		Method:  method,
		Path:    r.URL.RequestURI(),
		Headers: lines(r),
		Body:    content,
	})
	if err != nil {
		return nil, err
	}
	status, head, err := call.Head(ctx)
	if err != nil {
		return nil, err
	}
	header := parse(head)
	length, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
	if err != nil {
		length = -1
	}
	return &http.Response{
		Status:        strconv.Itoa(status) + " " + http.StatusText(status),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          call.Body(ctx),
		ContentLength: length,
		Request:       r,
	}, nil
}

func lines(r *http.Request) string {
	var text strings.Builder
	oneLine := strings.NewReplacer("\n", " ", "\r", " ")
	for name, values := range r.Header {
		for _, value := range values {
			fmt.Fprintf(&text, "%s: %s\n", name, oneLine.Replace(value))
		}
	}
	if user := r.URL.User; user != nil && r.Header.Get("Authorization") == "" {
		password, _ := user.Password()
		with := http.Request{Header: http.Header{}}
		with.SetBasicAuth(user.Username(), password)
		fmt.Fprintf(&text, "Authorization: %s\n", with.Header.Get("Authorization"))
	}
	return text.String()
}

func parse(lines string) http.Header {
	header := http.Header{}
	for line := range strings.SplitSeq(lines, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			header.Add(name, strings.TrimSpace(value))
		}
	}
	return header
}
