//go:build !wasip1 || tinygo

package abi

// readEarly is only of use where the environment is not known from the beginning, and is only
// possible in mainline Go.
func readEarly() []string { return nil }
