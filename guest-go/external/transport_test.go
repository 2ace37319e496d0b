package external_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/wasmop/wasmop/guest-go/external"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/fakehost"
)

func TestARequestOfNetHTTPCallsItsHost(t *testing.T) {
	h := fakehost.New(t)
	sent := make(chan abi.Request, 1)
	h.Answer = func(r abi.Request) abi.Response {
		sent <- r
		return abi.Response{Status: 201, Headers: "content-length: 4\nset-cookie: a\nset-cookie: b\n", Body: []byte("made")}
	}
	client := &http.Client{Transport: external.Transport{}}
	r, err := http.NewRequest("POST", "https://user:secret@api.example.com:8443/a%2fb?c=d", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-A", "1")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 201 || answer.ContentLength != 4 || string(content) != "made" {
		t.Errorf("%+v, %q, %v", answer, content, err)
	}
	if cookies := answer.Header.Values("Set-Cookie"); len(cookies) != 2 {
		t.Error(cookies)
	}
	got := <-sent
	if got.Target != "https://api.example.com:8443" || got.Method != "POST" || got.Path != "/a%2fb?c=d" || string(got.Body) != "hello" {
		t.Errorf("%+v", got)
	}
	for _, line := range []string{"X-A: 1\n", "Authorization: Basic dXNlcjpzZWNyZXQ=\n"} {
		if !strings.Contains(got.Headers, line) {
			t.Errorf("%q is not in %q", line, got.Headers)
		}
	}
}

func TestAFailureIsAnErrorOfTheRequest(t *testing.T) {
	h := fakehost.New(t)
	go func() {
		c := <-h.Called
		h.Send(abi.FailedEvent(c.ID, "no permission to contact https://a.example"))
	}()
	client := &http.Client{Transport: external.Transport{}}
	if _, err := client.Get("https://a.example"); err == nil || !strings.Contains(err.Error(), "no permission") {
		t.Error(err)
	}
}
