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

// EventRecorder emits Events about objects. Its API follows client-go's tools/events.
type EventRecorder interface {
	// Eventf emits an Event without waiting for the API server. Failures are logged. related may be nil. reason and
	// action are short machine-readable CamelCase words: the cause, and what the controller did. note is for humans.
	Eventf(regarding, related client.Object, eventType, reason, action, note string, args ...any)
}

const (
	// An Event that repeats within this time extends the series of the first one, as in client-go.
	seriesWindow = 6 * time.Minute
	// At most this many series are kept. The oldest is evicted first.
	seriesLimit = 256
	noteLimit   = 1024 // bytes; the limit of the API server
)

type recorder struct {
	name string

	mu   sync.Mutex
	seen map[eventKey]*series
}

// eventKey identifies a series. Events with the same key are repetitions.
type eventKey struct{ uid, kind, namespace, name, eventType, reason, action, note string }

// series is an Event and its repetitions. At most one request about a series is open, because otherwise a repetition
// could overtake the creation. The recorder's mutex guards all fields.
type series struct {
	key   eventKey
	event eventsv1.Event // the first occurrence
	// count is the number of occurrences. reported is the number that the API server knows, 0 before it has the Event.
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
		e.Namespace = "default" // the namespace of Events about cluster-scoped objects
	}
	if related != nil {
		ref := eventsv1.ReferenceTo(related)
		e.Related = &ref
	}
	r.report(r.emit(e))
}

// emit counts an occurrence and returns its series.
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

// report sends the occurrences of a series that the API server does not know yet.
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
		slog.Error("cannot encode an Event as JSON", "error", err)
		return
	}
	abi.Post(request, func(answer abi.Response, err error) {
		switch {
		case err != nil:
			r.failed(s)
			slog.Warn("an Event could not be sent", "path", request.Path, "error", err)
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
	r.report(s) // occurrences since the request
}

// expired creates the Event again: the API server keeps Events for an hour.
func (r *recorder) expired(s *series) {
	r.mu.Lock()
	s.busy, s.reported = false, 0
	r.mu.Unlock()
	r.report(s)
}

// failed removes a series, so that the next occurrence creates the Event again.
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

// nameLimit is the maximum length of an object's name in bytes.
const nameLimit = 253

// eventName returns a valid name for an Event about the object named about, which can be any text. For example, names
// of roles contain colons. A timestamp as in client-go would not be unique, because the clock does not advance during a
// step.
func eventName(about string, random uint64) string {
	suffix := fmt.Sprintf("%016x", random)
	var name []byte
	for _, c := range strings.ToLower(about) {
		if len(name)+1+len(suffix) >= nameLimit {
			break
		}
		switch {
		case c == '.':
			// Labels between dots must begin and end with a letter or a digit.
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
