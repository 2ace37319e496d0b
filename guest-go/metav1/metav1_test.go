package metav1_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/wasmop/wasmop/guest-go/metav1"
)

func TestTimesHaveTheFormatOfTheAPIServer(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.FixedZone("east", 3600))
	type times struct {
		Seconds metav1.Time      `json:"seconds,omitzero"`
		Micros  metav1.MicroTime `json:"micros,omitzero"`
		Unset   metav1.Time      `json:"unset,omitzero"`
		Null    metav1.Time      `json:"null"`
		Pointer *metav1.Time     `json:"pointer,omitempty"`
	}
	b, err := json.Marshal(times{Seconds: metav1.NewTime(at), Micros: metav1.MicroTime{Time: at}})
	want := `{"seconds":"2026-01-02T02:04:05Z","micros":"2026-01-02T02:04:05.678000Z","null":null}`
	if err != nil || string(b) != want {
		t.Fatalf("got  %s, %v\nwant %s", b, err, want)
	}
	var back times
	if err := json.Unmarshal(b, &back); err != nil || !back.Micros.Equal(at) || !back.Null.IsZero() {
		t.Fatal(back, err)
	}
	if err := json.Unmarshal([]byte(`{"seconds":5}`), &back); err == nil {
		t.Error("a number was read as a time")
	}
}

func TestIntOrStringRoundTrips(t *testing.T) {
	for text, value := range map[string]metav1.IntOrString{`80`: metav1.FromInt(80), `"http"`: metav1.FromString("http")} {
		b, err := json.Marshal(value)
		if err != nil || string(b) != text {
			t.Error(string(b), err)
		}
		var back metav1.IntOrString
		if err := json.Unmarshal([]byte(text), &back); err != nil || back != value {
			t.Error(back, err)
		}
	}
	if err := json.Unmarshal([]byte(`true`), new(metav1.IntOrString)); err == nil {
		t.Error("true was read")
	}
}
