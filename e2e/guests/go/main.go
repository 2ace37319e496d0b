// The conformance guest, built with Go. Its code is in package probe.
package main

import "github.com/wasmop/wasmop/e2e/guests/go/probe"

func main() { probe.Main() }
