package abi

import "sync"

// table maps IDs to the receivers of their events. It needs a lock even with a single thread: a map assignment
// allocates, and an allocation may yield to the garbage collector, which switches goroutines.
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

// take removes an entry. ok reports whether it was present. Only the caller that gets true ends the task or call.
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
