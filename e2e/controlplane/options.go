package main

import (
	"flag"
	"strings"
)

// defaultControllers leaves out what needs nodes, a cloud or certificates, and so only costs
// memory here. What is left collects garbage, cleans up namespaces, creates service accounts
// and turns workloads into Pods (which stay Pending: there is no scheduler).
var defaultControllers = []string{
	"garbage-collector-controller", "namespace-controller", "serviceaccount-controller", "serviceaccount-token-controller",
	"root-ca-certificate-publisher-controller", "clusterrole-aggregation-controller", "deployment-controller",
	"replicaset-controller", "statefulset-controller", "daemonset-controller", "job-controller", "cronjob-controller",
	"endpointslice-controller", "pod-garbage-collector-controller", "disruption-controller",
}

// options are the flags of the bundle as a whole.
type options struct {
	dir              string
	kubeconfig       string
	port             int
	controllers      string
	apiserverArgs    string
	verbosity        string
	logs             bool
	untilStdinCloses bool
}

func (o *options) register(fs *flag.FlagSet) {
	fs.StringVar(&o.dir, "dir", "", "work directory (default: a new temporary one, removed at exit)")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "where to write the admin kubeconfig (default: DIR/kubeconfig)")
	fs.IntVar(&o.port, "port", 0, "port of the API server (0: a free one)")
	fs.StringVar(&o.controllers, "controllers", strings.Join(defaultControllers, ","), "controllers to run; empty: no kube-controller-manager")
	fs.StringVar(&o.apiserverArgs, "apiserver-args", "", "more kube-apiserver flags, separated by spaces")
	fs.StringVar(&o.verbosity, "v", "0", "log level of the components")
	fs.BoolVar(&o.logs, "logs", false, "print the components' logs on stderr")
	fs.BoolVar(&o.untilStdinCloses, "until-stdin-closes", false, "stop when standard input ends, so that the control plane never outlives the program that started it")
}
