// The conformance guest, built by TinyGo; package probe is the guest itself.
package main

import "github.com/wasmop/wasmop/e2e/guests/go/probe"

func main() { probe.Main() }
