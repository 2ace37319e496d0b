package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/pflag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// startAPIServer goes through the options rather than NewAPIServerCommand, which would install
// signal handlers of its own.
func startAPIServer(o options, listener net.Listener, pki *pki, etcdURL string) (*task, error) {
	s := apiserveroptions.NewServerRunOptions()
	args := []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		fmt.Sprintf("--secure-port=%d", listener.Addr().(*net.TCPAddr).Port),
		"--tls-cert-file=" + pki.file("apiserver.crt"), "--tls-private-key-file=" + pki.file("apiserver.key"),
		"--client-ca-file=" + pki.file("ca.crt"), "--token-auth-file=" + pki.file("tokens.csv"),
		"--requestheader-client-ca-file=" + pki.file("ca.crt"), "--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki.file("front-proxy.crt"), "--proxy-client-key-file=" + pki.file("front-proxy.key"),
		"--authorization-mode=RBAC", "--anonymous-auth=true",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + pki.file("sa.pub"), "--service-account-signing-key-file=" + pki.file("sa.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--profiling=false", "--cert-dir=" + o.dir,
	}
	args = append(args, strings.Fields(o.apiserverArgs)...)

	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range s.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	s.SecureServing.Listener = listener
	completed, err := s.Complete(context.Background())
	if err != nil {
		return nil, err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return start(func(ctx context.Context) error { return apiserver.Run(ctx, completed) }), nil
}

// waitReady asks url until it answers 200, the server ends, or ctx does.
func waitReady(ctx context.Context, pki *pki, url string, server *task) error {
	transport, err := pki.transport("admin")
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 2 * time.Second}
	for {
		if response, err := client.Get(url); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-server.done:
			return server.err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
