package wasmop_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/wasmop/wasmop/guest-go"
	"github.com/wasmop/wasmop/guest-go/corev1"
	"github.com/wasmop/wasmop/guest-go/eventsv1"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/fakehost"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// clusterRole is a cluster-scoped kind whose names may contain colons.
type clusterRole struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

func (*clusterRole) Resource() metav1.Resource {
	return metav1.Resource{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole", Plural: "clusterroles"}
}

// answer answers a call from Called.
func answer(h *fakehost.Host, call fakehost.Call, status int) {
	h.Send(abi.HeadEvent(call.ID, status, ""), abi.BodyEvent(call.ID, []byte("{}")), abi.EndEvent(call.ID))
}

func recorder() wasmop.EventRecorder {
	return wasmop.NewManager(wasmop.Options{}).GetEventRecorder("me")
}

func event(t *testing.T, call fakehost.Call) (e eventsv1.Event) {
	t.Helper()
	if err := json.Unmarshal(call.Body, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAnEventAboutAnyObjectHasAValidName(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	h := fakehost.New(t)
	r := recorder()
	for about, begin := range map[string]string{
		"web": "web.", "web-1.example": "web-1.example.", "system:node": "system-node.", "System:Node": "system-node.", "a--b": "a--b.",
		"-.a-.-b..c.": "a.b.c.", "größe": "gr--e.", "日本": "", "": "", "K": "k.", "...": "", strings.Repeat("a", 300): strings.Repeat("a", 236) + ".", strings.Repeat("é.", 200): "",
	} {
		names := map[string]bool{}
		for i := range 2 {
			r.Eventf(&clusterRole{ObjectMeta: metav1.ObjectMeta{Name: about}}, nil, wasmop.EventTypeNormal, "Seen", "Look", "%d", i)
			call := <-h.Called
			e := event(t, call)
			if !valid.MatchString(e.Name) || len(e.Name) > 253 || !strings.HasPrefix(e.Name, begin) || names[e.Name] {
				t.Errorf("%q: the Event's name is %q", about, e.Name)
			}
			if e.Namespace != "default" || call.Path != "/apis/events.k8s.io/v1/namespaces/default/events" || e.Regarding.Namespace != "" || e.Regarding.Name != about {
				t.Errorf("%q: %s %+v", about, call.Path, e)
			}
			names[e.Name] = true
		}
	}
}

func TestARepeatedEventBecomesASeries(t *testing.T) {
	h := fakehost.New(t)
	h.Answer = func(abi.Request) abi.Response { return abi.Response{Status: 201, Body: []byte("{}")} }
	r := recorder()
	site := &website{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b", UID: "u"}}
	emit := func() fakehost.Call {
		r.Eventf(site, nil, wasmop.EventTypeNormal, "Created", "Create", "made %d", 1)
		return <-h.Called
	}
	first := emit()
	e := event(t, first)
	if first.Method != "POST" || first.Path != "/apis/events.k8s.io/v1/namespaces/a/events" || e.Note != "made 1" ||
		e.ReportingController != "me" || e.Regarding.Kind != "Website" || e.Regarding.APIVersion != "example.com/v1" ||
		!strings.HasPrefix(e.Name, "b.") || e.EventTime.IsZero() || e.Series != nil {
		t.Errorf("%s %s %s", first.Method, first.Path, first.Body)
	}
	for count := 2; count <= 3; count++ {
		again := emit()
		if again.Method != "PATCH" || again.Path != first.Path+"/"+e.Name || !strings.Contains(string(again.Body), fmt.Sprintf(`"count":%d`, count)) {
			t.Errorf("%s %s %s", again.Method, again.Path, again.Body)
		}
	}
	r.Eventf(site, site, wasmop.EventTypeWarning, "Failed", "Create", strings.Repeat("é", 1000))
	other := <-h.Called
	if e := event(t, other); other.Method != "POST" || len(e.Note) > 1024 || !strings.HasSuffix(e.Note, "é…") || e.Related == nil {
		t.Error(other.Method, len(e.Note))
	}
}

func TestRepetitionsWaitUntilTheEventExists(t *testing.T) {
	h := fakehost.New(t)
	r := recorder()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	for range 5 {
		r.Eventf(cm, nil, wasmop.EventTypeNormal, "Seen", "Look", "seen")
	}
	first := <-h.Called
	if first.Method != "POST" || len(h.Called) != 0 {
		t.Fatal(first.Method, len(h.Called))
	}
	answer(h, first, 201)
	again := <-h.Called
	if again.Method != "PATCH" || !strings.HasSuffix(again.Path, "/"+event(t, first).Name) || event(t, again).Series.Count != 5 {
		t.Errorf("%s %s %s", again.Method, again.Path, again.Body)
	}
}

func TestARefusedEventDoesNotSuppressOthers(t *testing.T) {
	h := fakehost.New(t)
	before := slog.Default()
	slog.SetDefault(slog.New(wasmop.NewLogHandler(slog.LevelInfo)))
	defer slog.SetDefault(before)
	r := recorder()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	emit := func() fakehost.Call {
		r.Eventf(cm, nil, wasmop.EventTypeNormal, "Seen", "Look", "seen")
		return <-h.Called
	}
	// The same Event is created again, not patched.
	for _, status := range []int{403, 422, 409, 500} {
		call := emit()
		if call.Method != "POST" {
			t.Fatal(call.Method)
		}
		answer(h, call, status)
		<-h.Logged
	}
	call := emit()
	h.Send(abi.FailedEvent(call.ID, "connection reset"))
	<-h.Logged
	call = emit()
	if call.Method != "POST" || event(t, call).Series != nil {
		t.Fatal(call.Method)
	}
	answer(h, call, 201)
	// An expired Event is created again with its series.
	again := emit()
	if again.Method != "PATCH" {
		t.Fatal(again.Method)
	}
	answer(h, again, 404)
	recreated := <-h.Called
	if e := event(t, recreated); recreated.Method != "POST" || e.Series == nil || e.Series.Count < 2 || e.Name == event(t, call).Name {
		t.Errorf("%s %s", recreated.Method, recreated.Body)
	}
}
