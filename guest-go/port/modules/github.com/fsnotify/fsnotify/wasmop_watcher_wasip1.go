package fsnotify

import (
	"os"
	"sync"
)

// Watcher watches files that nobody but the program itself can change. It reports nothing.
type Watcher struct {
	Events chan Event
	Errors chan error

	mu     sync.Mutex
	names  []string
	closed bool
}

// NewWatcher returns a watcher without files.
func NewWatcher() (*Watcher, error) {
	return &Watcher{Events: make(chan Event), Errors: make(chan error)}, nil
}

// NewBufferedWatcher is the same; there are no events to buffer.
func NewBufferedWatcher(uint) (*Watcher, error) { return NewWatcher() }

// Close closes the channels.
func (w *Watcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.Events)
		close(w.Errors)
	}
	return nil
}

// Add fails for a file that does not exist.
func (w *Watcher) Add(name string) error {
	if _, err := os.Stat(name); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = append(w.names, name)
	return nil
}

// AddWith takes the options of fsnotify, which have no effect.
func (w *Watcher) AddWith(name string, _ ...interface{}) error { return w.Add(name) }

// Remove forgets a file.
func (w *Watcher) Remove(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, known := range w.names {
		if known == name {
			w.names = append(w.names[:i], w.names[i+1:]...)
			break
		}
	}
	return nil
}

// WatchList returns the names of the files.
func (w *Watcher) WatchList() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.names...)
}
