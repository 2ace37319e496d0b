package main

import (
	"maps"
	"os"
	"slices"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// components are the programs this one stands in for, by the name it is called by. Each takes
// the whole argument list, behaves as the original's main does, and need not return.
var components = map[string]func(args []string){
	"etcd":                    etcdmain.Main,
	"kube-apiserver":          func([]string) { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) },
	"kube-controller-manager": func([]string) { os.Exit(cli.Run(kcm.NewControllerManagerCommand())) },
	"kubectl":                 kubectl,
}

func componentNames() []string { return slices.Sorted(maps.Keys(components)) }

func kubectl([]string) {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		cmdutil.CheckErr(err)
	}
}
