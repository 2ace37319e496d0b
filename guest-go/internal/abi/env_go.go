//go:build wasip1 && !tinygo

package abi

import (
	"sync"
	_ "unsafe" // for linkname
)

// envReads notes the environment variables that package initialisers read. They run while the base
// image is made, where the environment is not known yet.
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

// Package os tells whoever is set here, which in tests is cmd/go's cache. There are no tests here.
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

// readEarly names the variables that were read before main, as far as they were read by packages
// that import this one. It is to be called once.
func readEarly() []string {
	earlyReads.mu.Lock()
	defer earlyReads.mu.Unlock()
	names := earlyReads.names
	earlyReads.names, earlyReads.ended = nil, true
	return names
}
