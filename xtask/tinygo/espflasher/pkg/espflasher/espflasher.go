// Package espflasher stands in for the module that flashes ESP boards: what TinyGo calls of it, doing
// nothing.
package espflasher

import (
	"errors"
	"io"
)

type (
	StdoutLogger struct{ W io.Writer }
	ResetMode    int
	Options      struct {
		Compress  bool
		Logger    *StdoutLogger
		ResetMode ResetMode
	}
	Flasher struct{}
)

const ResetUSBJTAG ResetMode = 1

func DefaultOptions() *Options { return &Options{} }

func New(string, *Options) (*Flasher, error) {
	return nil, errors.New("this TinyGo was built without support for flashing boards")
}

func (*Flasher) Close() error                                    { return nil }
func (*Flasher) ChipName() string                                { return "" }
func (*Flasher) EraseFlash(func(int, int)) error                 { return nil }
func (*Flasher) FlashImage([]byte, uint32, func(int, int)) error { return nil }
func (*Flasher) Reset()                                          {}
