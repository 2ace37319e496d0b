package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/klog/v2"
)

// run starts etcd, then kube-apiserver, then kube-controller-manager; prints one line that
// begins with READY; and stops them in the opposite order on SIGTERM, SIGINT or (if asked for)
// the end of standard input.
func run(o options) error {
	started := time.Now()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if o.untilStdinCloses {
		ctx = withStdin(ctx)
	}
	setLogs(o)
	settle := favourSpeed()

	if o.dir == "" {
		dir, err := os.MkdirTemp("", "controlplane-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	} else if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	if o.kubeconfig == "" {
		o.kubeconfig = filepath.Join(o.dir, "kubeconfig")
	}

	// Listening here and handing the socket on leaves no gap in which the port could be taken.
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", o.port))
	if err != nil {
		return err
	}
	server := "https://" + listener.Addr().String()
	pki, err := newPKI(filepath.Join(o.dir, "pki"))
	if err != nil {
		return err
	}
	if err := pki.writeKubeconfig(o.kubeconfig, server, "admin"); err != nil {
		return err
	}
	if err := compatibility.DefaultComponentGlobalsRegistry.Set(); err != nil {
		return err
	}

	etcd, err := startEtcd(filepath.Join(o.dir, "etcd"))
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer etcd.Close()

	api, err := startAPIServer(o, listener, pki, etcd.Config().ListenClientUrls[0].String())
	if err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	defer api.stop(10 * time.Second)
	if err := waitReady(ctx, pki, server+"/readyz", api); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}

	if o.controllers != "" {
		controllers, err := startControllerManager(o, pki, server)
		if err != nil {
			return fmt.Errorf("kube-controller-manager: %w", err)
		}
		defer controllers.stop(5 * time.Second)
	}

	fmt.Printf("READY %s kubeconfig=%s token=%s startup_ms=%d\n", server, o.kubeconfig, pki.token, time.Since(started).Milliseconds())
	time.AfterFunc(2*time.Second, settle)
	time.AfterFunc(15*time.Second, settle)

	select {
	case <-ctx.Done():
		stop() // a second signal ends the process at once
		return nil
	case <-api.done:
		return fmt.Errorf("kube-apiserver stopped: %w", api.err)
	}
}

// task is a component running in a goroutine of its own.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

func start(run func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		if t.err = run(ctx); t.err == nil {
			t.err = errors.New("ended by itself")
		}
	}()
	return t
}

func (t *task) stop(patience time.Duration) {
	t.cancel()
	select {
	case <-t.done:
	case <-time.After(patience):
	}
}

func withStdin(parent context.Context) context.Context {
	ctx, cancel := context.WithCancel(parent)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}

// favourSpeed lets the heap grow while everything starts. The function it returns trades that
// for a small process.
func favourSpeed() (settle func()) {
	if os.Getenv("GOGC") != "" {
		return debug.FreeOSMemory
	}
	debug.SetGCPercent(400)
	return func() {
		debug.SetGCPercent(50)
		debug.FreeOSMemory()
	}
}

func setLogs(o options) {
	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	set := map[string]string{"v": o.verbosity}
	if !o.logs {
		set["logtostderr"], set["alsologtostderr"], set["stderrthreshold"] = "false", "false", "FATAL"
		klog.SetOutput(io.Discard)
	}
	for name, value := range set {
		_ = fs.Set(name, value) // only fails for unknown flags
	}
}
