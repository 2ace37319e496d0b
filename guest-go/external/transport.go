package external

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/wasmop/wasmop/guest-go/internal/abi"
)

// Transport is an [http.RoundTripper] that sends requests through the host. The zero value is ready to use. A request
// with the context of a reconcile is canceled with it.
type Transport struct{}

var _ http.RoundTripper = Transport{}

// RoundTrip sends a request with all its header fields except User-Agent and the hop-by-hop fields, which the host
// sets.
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
		return nil, fmt.Errorf("external: the Host %q of the request differs from that of its URL", r.Host)
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
