// The conformance guest, built by Go; package probe is the guest itself.
package main

import "github.com/wasmop/wasmop/e2e/guests/go/probe"

func main() { probe.Main() }
