// A controller in the layout of sample-controller: client-go's informers, listers and work queue, without a framework.
// It keeps a copy of each ConfigMap that has a label. Nothing in this project knows wasmop.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

func main() {
	klog.InitFlags(nil)
	master := flag.String("master", "", "The address of the API server, outside of a cluster.")
	kubeconfig := flag.String("kubeconfig", "", "The path of a kubeconfig, outside of a cluster.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	config, err := clientcmd.BuildConfigFromFlags(*master, *kubeconfig)
	if err != nil {
		klog.Fatalf("Reading the configuration: %v", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		klog.Fatalf("Creating the client: %v", err)
	}
	id, err := os.Hostname()
	if err != nil {
		klog.Fatalf("Reading the host's name: %v", err)
	}
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: "mirror", Namespace: os.Getenv("POD_NAMESPACE")},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: id},
		},
		ReleaseOnCancel: true,
		LeaseDuration:   15 * time.Second,
		RenewDeadline:   10 * time.Second,
		RetryPeriod:     2 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { run(ctx, client) },
			OnStoppedLeading: func() { klog.Info("Not the leader any more") },
		},
	})
}

func run(ctx context.Context, client kubernetes.Interface) {
	factory := informers.NewSharedInformerFactory(client, 10*time.Hour)
	controller := newController(client, factory.Core().V1().ConfigMaps())
	factory.Start(ctx.Done())
	if err := controller.run(ctx, 2); err != nil {
		klog.Fatalf("Running the controller: %v", err)
	}
}

func equal(a, b map[string]string) bool { return equality.Semantic.DeepEqual(a, b) }
