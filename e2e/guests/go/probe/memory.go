package probe

import (
	"sync"
	"time"

	"github.com/wasmop/wasmop/guest-go/metav1"
)

// memory is what must survive suspending: it is nowhere but in the guest's linear memory.
type memory struct {
	mu      sync.Mutex
	total   int64
	objects map[metav1.UID]*object
	// thousand is filled at the first reconcile and iterated by the action random.
	thousand map[int]string
	// grown is what the actions grow, heap and leak have allocated, a MiB each.
	grown [][]byte
}

// object is what is remembered about one Probe.
type object struct {
	first    time.Time // with monotonic reading
	seen     int64
	errors   int64
	requeued int64 // wall clock of the previous reconcile that asked for a requeue, ns
}

// count counts a reconcile and returns both counters and what is known about the object.
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

// checkThousand iterates the map and says "ok" if all of its entries are still there.
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

// leak holds so many MiB more, all pages written.
func (m *memory) leak(mebibytes int64) {
	m.mu.Lock()
	held := int64(len(m.grown))
	m.mu.Unlock()
	m.hold(held + mebibytes)
}

// hold sees to it that at least this many MiB, all pages written, are held.
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
