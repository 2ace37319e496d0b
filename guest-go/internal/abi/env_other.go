//go:build !wasip1 || tinygo

package abi

// readEarly is needed only in the sandbox, and possible only in mainline Go.
func readEarly() []string { return nil }
