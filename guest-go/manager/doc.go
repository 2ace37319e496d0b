// Package manager runs the controllers of a program. Its path and its names are those of controller-runtime's package
// manager. The types are aliases of those in package wasmop.
package manager

import "github.com/wasmop/wasmop/guest-go"

// Manager runs the controllers of a program.
type Manager = wasmop.Manager

// Options configures a Manager.
type Options = wasmop.Options

// Runnable runs alongside the controllers.
type Runnable = wasmop.Runnable

// RunnableFunc is a function that implements Runnable.
type RunnableFunc = wasmop.RunnableFunc

// New returns a Manager without controllers.
func New(o Options) Manager { return wasmop.NewManager(o) }
