// Command controlplane runs a real Kubernetes control plane (etcd, kube-apiserver and
// kube-controller-manager) in one process, for tests and demos.
//
// Called by another name it is that component alone: links named kube-apiserver, etcd,
// kube-controller-manager and kubectl beside each other make a directory that serves as
// KUBEBUILDER_ASSETS. `controlplane kubectl ...` and so on do the same without a link.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if component, ok := components[filepath.Base(os.Args[0])]; ok {
		component(os.Args)
		return
	}
	if len(os.Args) > 1 {
		if component, ok := components[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			component(os.Args)
			return
		}
	}

	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "controlplane: unexpected argument %q\nhelp: it takes flags only, or one of %v first\n", flag.Arg(0), componentNames())
		os.Exit(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}
