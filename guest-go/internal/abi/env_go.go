//go:build wasip1 && !tinygo

package abi

import (
	"sync"
	_ "unsafe" // for linkname
)

// envReads records the environment variables that package initializers read. They run when the base image is created,
// where the environment is unknown.
type envReads struct {
	mu    sync.Mutex
	names []string
	ended bool
}

func (r *envReads) Getenv(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.names = append(r.names, name)
	}
}

func (*envReads) Stat(string)  {}
func (*envReads) Open(string)  {}
func (*envReads) Chdir(string) {}

// Package os reports its accesses to this logger. It exists for cmd/go's test cache, which is not used in guests.
//
//go:linkname setTestLogger internal/testlog.SetLogger
func setTestLogger(interface {
	Getenv(string)
	Stat(string)
	Open(string)
	Chdir(string)
})

var earlyReads envReads

func init() { setTestLogger(&earlyReads) }

// readEarly returns the variables that were read before main by packages that import this one. It must be called once.
func readEarly() []string {
	earlyReads.mu.Lock()
	defer earlyReads.mu.Unlock()
	names := earlyReads.names
	earlyReads.names, earlyReads.ended = nil, true
	return names
}
