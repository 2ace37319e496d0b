package abi

import "sync"

// table maps ids to what waits for their events. There is one thread, but goroutines can be
// switched inside a map assignment (it allocates, and an allocation may yield to the collector),
// so it needs its lock as anywhere else.
type table[T any] struct {
	mu      sync.Mutex
	entries map[uint64]T
}

func (t *table[T]) put(id uint64, v T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries == nil {
		t.entries = map[uint64]T{}
	}
	t.entries[id] = v
}

func (t *table[T]) get(id uint64) (T, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.entries[id]
	return v, ok
}

// take removes an entry; ok says whether it was still there, which makes its caller the one to end it.
func (t *table[T]) take(id uint64) (v T, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok = t.entries[id]
	delete(t.entries, id)
	return v, ok
}

func (t *table[T]) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.entries)
}
