package main

import (
	"context"
	"path/filepath"

	"github.com/spf13/pflag"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kcmoptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
)

func startControllerManager(o options, pki *pki, server string) (*task, error) {
	kubeconfig := filepath.Join(o.dir, "kube-controller-manager.kubeconfig")
	if err := pki.writeKubeconfig(kubeconfig, server, "kube-controller-manager"); err != nil {
		return nil, err
	}
	s, err := kcmoptions.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, err
	}
	all, disabled, aliases := kcm.KnownControllers(), kcm.ControllersDisabledByDefault(), kcm.ControllerAliases()
	named := s.Flags(all, disabled, aliases)
	flags := pflag.NewFlagSet("kube-controller-manager", pflag.ContinueOnError)
	for _, set := range named.FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse([]string{
		"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0", "--profiling=false",
		"--controllers=" + o.controllers, "--use-service-account-credentials=false",
		"--service-account-private-key-file=" + pki.file("sa.key"), "--root-ca-file=" + pki.file("ca.crt"),
		"--controller-start-interval=0s",
	}); err != nil {
		return nil, err
	}
	s.ParsedFlags = &named

	config, err := s.Config(context.Background(), all, disabled, aliases)
	if err != nil {
		return nil, err
	}
	return start(func(ctx context.Context) error { return kcm.Run(ctx, config.Complete()) }), nil
}
