package wasmop

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/eventsv1"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// The types of Events.
const (
	EventTypeNormal  = "Normal"
	EventTypeWarning = "Warning"
)

// EventRecorder emits Events about objects, in the shape of client-go's tools/events.
type EventRecorder interface {
	// Eventf emits an Event. related may be nil. reason and action are short CamelCase words for
	// machines: why, and what the controller did; note is for people. It does not wait: an Event the
	// API server refuses is logged.
	Eventf(regarding, related client.Object, eventType, reason, action, note string, args ...any)
}

const (
	// Like client-go: an Event repeated within this time becomes a series of the first one.
	seriesWindow = 6 * time.Minute
	// Events remembered for that; older ones are forgotten first.
	seriesLimit = 256
	noteLimit   = 1024 // bytes, by the API server's validation
)

type recorder struct {
	name string

	mu   sync.Mutex
	seen map[eventKey]*seenEvent
}

// eventKey is what makes two Events the same happening.
type eventKey struct{ uid, kind, namespace, name, eventType, reason, action, note string }

type seenEvent struct {
	path  string // of the first Event
	count int32
	last  time.Time
}

func newRecorder(name string) *recorder {
	return &recorder{name: name, seen: map[eventKey]*seenEvent{}}
}

func (r *recorder) Eventf(regarding, related client.Object, eventType, reason, action, note string, args ...any) {
	if len(args) > 0 {
		note = fmt.Sprintf(note, args...)
	}
	if len(note) > noteLimit {
		note = strings.ToValidUTF8(note[:noteLimit-len("…")], "") + "…"
	}
	now := metav1.NowMicro()
	about := eventsv1.ReferenceTo(regarding)
	key := eventKey{about.UID, about.Kind, about.Namespace, about.Name, eventType, reason, action, note}
	if path, series := r.repeated(key, now); series != nil {
		r.send("PATCH", path, client.MergePatchType, struct {
			Series *eventsv1.EventSeries `json:"series"`
		}{series})
		return
	}
	namespace := about.Namespace
	if namespace == "" {
		namespace = "default" // where Events about cluster-scoped objects go
	}
	e := eventsv1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			// Not the time, as in client-go: it stands still during a step.
			Name: about.Name + "." + strconv.FormatUint(abi.Random(), 16),
		},
		EventTime: now, ReportingController: r.name, ReportingInstance: r.name,
		Action: action, Reason: reason, Regarding: about, Note: note, Type: eventType,
	}
	if related != nil {
		ref := eventsv1.ReferenceTo(related)
		e.Related = &ref
	}
	path := "/apis/events.k8s.io/v1/namespaces/" + namespace + "/events"
	r.remember(key, path+"/"+e.Name, now.Time)
	r.send("POST", path, "application/json", &e)
}

// repeated counts an Event that was emitted before and returns its series.
func (r *recorder) repeated(key eventKey, now metav1.MicroTime) (path string, series *eventsv1.EventSeries) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.seen[key]
	if !ok || now.Sub(s.last) > seriesWindow {
		return "", nil
	}
	s.count++
	s.last = now.Time
	return s.path, &eventsv1.EventSeries{Count: s.count, LastObservedTime: now}
}

func (r *recorder) remember(key eventKey, path string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) >= seriesLimit {
		var oldest eventKey
		first := true
		for k, s := range r.seen {
			if first || s.last.Before(r.seen[oldest].last) {
				oldest, first = k, false
			}
		}
		delete(r.seen, oldest)
	}
	r.seen[key] = &seenEvent{path: path, count: 1, last: now}
}

func (r *recorder) send(method, path, contentType string, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		slog.Error("an Event cannot be JSON", "error", err)
		return
	}
	request := abi.Request{Method: method, Path: path, Headers: "content-type: " + contentType + "\naccept: application/json\n", Body: b}
	abi.Post(request, func(answer abi.Response, err error) {
		if err != nil {
			slog.Warn("an Event was lost", "path", path, "error", err)
		} else if answer.Status >= 300 {
			slog.Warn("an Event was refused", "path", path, "status", answer.Status, "answer", string(answer.Body))
		}
	})
}
