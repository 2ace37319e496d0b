//go:build tools

// Package tinygo pins the TinyGo that `cargo xtask setup --tinygo` builds.
package tinygo

import _ "github.com/tinygo-org/tinygo"
