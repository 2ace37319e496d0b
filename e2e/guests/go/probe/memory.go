package probe

import (
	"sync"
	"time"

	"github.com/wasmop/wasmop/guest-go/metav1"
)

// memory is the state that must survive a suspension. It exists only in the guest's linear memory.
type memory struct {
	mu      sync.Mutex
	total   int64
	objects map[metav1.UID]*object
	// thousand is a map that the first reconcile fills and the action random iterates.
	thousand map[int]string
	// grown has the allocations of the actions grow, heap and leak, one MiB each.
	grown [][]byte
}

// object is the state of one Probe.
type object struct {
	first    time.Time // with a monotonic reading
	seen     int64
	errors   int64
	requeued int64 // wall clock of the previous reconcile with a requeue, in nanoseconds
}

// count counts a reconcile. It returns both counters and the state of the object.
func (m *memory) count(uid metav1.UID) (total, seen int64, o *object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects == nil {
		m.objects = map[metav1.UID]*object{}
		m.thousand = make(map[int]string, 1000)
		for i := range 1000 {
			m.thousand[i] = thousandth(i)
		}
	}
	o = m.objects[uid]
	if o == nil {
		o = &object{first: time.Now()}
		m.objects[uid] = o
	}
	m.total++
	o.seen++
	return m.total, o.seen, o
}

// checkThousand iterates the map. It returns "ok" if all entries are intact.
func (m *memory) checkThousand() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := 0
	for i, s := range m.thousand {
		if s != thousandth(i) {
			return "changed"
		}
		sum += i
	}
	if len(m.thousand) != 1000 || sum != 999*1000/2 {
		return "lost"
	}
	return "ok"
}

// leak allocates this many more MiB, with all pages written.
func (m *memory) leak(mebibytes int64) {
	m.mu.Lock()
	held := int64(len(m.grown))
	m.mu.Unlock()
	m.hold(held + mebibytes)
}

// hold allocates until at least this many MiB are held, with all pages written.
func (m *memory) hold(mebibytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for int64(len(m.grown)) < mebibytes {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		m.grown = append(m.grown, b)
	}
}

func thousandth(i int) string {
	return string(rune('a'+i%26)) + string(rune('a'+i/26%26))
}
