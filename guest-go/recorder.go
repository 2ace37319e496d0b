package wasmop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
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
	seen map[eventKey]*series
}

// eventKey is what makes two Events the same happening.
type eventKey struct{ uid, kind, namespace, name, eventType, reason, action, note string }

// series is an Event and its repetitions. One request about it is under way at most: a repetition could
// otherwise overtake the creation. All fields are guarded by the recorder's mutex.
type series struct {
	key   eventKey
	event eventsv1.Event // as it was emitted first
	// count is how often it was emitted, reported how often as the API server knows; 0 before it exists.
	count, reported int32
	last            metav1.MicroTime
	busy            bool
}

func newRecorder(name string) *recorder {
	return &recorder{name: name, seen: map[eventKey]*series{}}
}

func (r *recorder) Eventf(regarding, related client.Object, eventType, reason, action, note string, args ...any) {
	if len(args) > 0 {
		note = fmt.Sprintf(note, args...)
	}
	if len(note) > noteLimit {
		note = strings.ToValidUTF8(note[:noteLimit-len("…")], "") + "…"
	}
	about := eventsv1.ReferenceTo(regarding)
	e := eventsv1.Event{
		TypeMeta:            metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"},
		ObjectMeta:          metav1.ObjectMeta{Namespace: about.Namespace},
		EventTime:           metav1.NowMicro(),
		ReportingController: r.name, ReportingInstance: r.name,
		Action: action, Reason: reason, Regarding: about, Note: note, Type: eventType,
	}
	if e.Namespace == "" {
		e.Namespace = "default" // where Events about cluster-scoped objects go
	}
	if related != nil {
		ref := eventsv1.ReferenceTo(related)
		e.Related = &ref
	}
	r.report(r.emit(e))
}

// emit counts an Event and returns its series.
func (r *recorder) emit(e eventsv1.Event) *series {
	about := e.Regarding
	key := eventKey{about.UID, about.Kind, about.Namespace, about.Name, e.Type, e.Reason, e.Action, e.Note}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen[key]
	if s == nil || e.EventTime.Sub(s.last.Time) > seriesWindow {
		if s == nil && len(r.seen) >= seriesLimit {
			delete(r.seen, r.oldest())
		}
		s = &series{key: key, event: e}
		r.seen[key] = s
	}
	s.count++
	s.last = e.EventTime
	return s
}

func (r *recorder) oldest() eventKey {
	var oldest *series
	for _, s := range r.seen {
		if oldest == nil || s.last.Before(oldest.last.Time) {
			oldest = s
		}
	}
	return oldest.key
}

// report tells the API server what it does not know of a series yet.
func (r *recorder) report(s *series) {
	r.mu.Lock()
	if s.busy || s.count == s.reported {
		r.mu.Unlock()
		return
	}
	s.busy = true
	count, exists := s.count, s.reported > 0
	var repeated *eventsv1.EventSeries
	if count > 1 {
		repeated = &eventsv1.EventSeries{Count: count, LastObservedTime: s.last}
	}
	path := "/apis/events.k8s.io/v1/namespaces/" + s.event.Namespace + "/events"
	var request abi.Request
	var err error
	if exists {
		request, err = eventRequest("PATCH", path+"/"+s.event.Name, client.MergePatchType, struct {
			Series *eventsv1.EventSeries `json:"series"`
		}{repeated})
	} else {
		s.event.Name = eventName(s.event.Regarding.Name, abi.Random())
		s.event.Series = repeated
		request, err = eventRequest("POST", path, "application/json", &s.event)
	}
	r.mu.Unlock()
	if err != nil {
		r.failed(s)
		slog.Error("an Event cannot be JSON", "error", err)
		return
	}
	abi.Post(request, func(answer abi.Response, err error) {
		switch {
		case err != nil:
			r.failed(s)
			slog.Warn("an Event was lost", "path", request.Path, "error", err)
		case answer.Status == statusNotFound && exists:
			r.expired(s)
		case answer.Status >= 300:
			r.failed(s)
			slog.Warn("an Event was refused", "path", request.Path, "status", answer.Status, "answer", string(answer.Body))
		default:
			r.reported(s, count)
		}
	})
}

const statusNotFound = 404

func (r *recorder) reported(s *series, count int32) {
	r.mu.Lock()
	s.busy, s.reported = false, count
	r.mu.Unlock()
	r.report(s) // what was emitted meanwhile
}

// expired makes the Event anew: the API server keeps Events for an hour.
func (r *recorder) expired(s *series) {
	r.mu.Lock()
	s.busy, s.reported = false, 0
	r.mu.Unlock()
	r.report(s)
}

// failed forgets a series, so that the next Event of the kind is tried as the first was.
func (r *recorder) failed(s *series) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[s.key] == s {
		delete(r.seen, s.key)
	}
}

func eventRequest(method, path, contentType string, body any) (abi.Request, error) {
	b, err := json.Marshal(body)
	headers := "content-type: " + contentType + "\naccept: application/json\n"
	return abi.Request{Method: method, Path: path, Headers: headers, Body: b}, err
}

// nameLimit is the length of the longest name of an object.
const nameLimit = 253

// eventName returns a valid name for an Event about an object of that name, which can be any text: names
// of roles contain colons. The time does not tell Events apart as in client-go: it stands still during a step.
func eventName(about string, random uint64) string {
	suffix := fmt.Sprintf("%016x", random)
	var name []byte
	for _, c := range strings.ToLower(about) {
		if len(name)+1+len(suffix) >= nameLimit {
			break
		}
		switch {
		case c == '.':
			// Parts between dots begin and end with a letter or a digit.
			name = bytes.TrimRight(name, "-")
			if len(name) > 0 && name[len(name)-1] != '.' {
				name = append(name, '.')
			}
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			name = append(name, byte(c))
		case len(name) > 0 && name[len(name)-1] != '.':
			name = append(name, '-')
		}
	}
	name = bytes.TrimRight(name, "-.")
	if len(name) == 0 {
		return suffix
	}
	return string(name) + "." + suffix
}
