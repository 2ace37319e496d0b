// A controller in the layout of sample-controller: client-go's informers, listers and work queue, of a client-go without
// generics. It copies Secrets to other namespaces. Nothing in this project knows wasmop.
package main

import (
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

func main() {
	klog.InitFlags(nil)
	master := flag.String("master", "", "The address of the API server, outside of a cluster.")
	kubeconfig := flag.String("kubeconfig", "", "The path of a kubeconfig, outside of a cluster.")
	workers := flag.Int("workers", 2, "The number of workers.")
	flag.Parse()

	config, err := clientcmd.BuildConfigFromFlags(*master, *kubeconfig)
	if err != nil {
		klog.Fatalf("Reading the configuration: %v", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		klog.Fatalf("Creating the client: %v", err)
	}
	stop := setupSignalHandler()
	factory := informers.NewSharedInformerFactory(client, 10*time.Hour)
	controller := newController(client, factory.Core().V1().Secrets(), factory.Core().V1().Namespaces())
	factory.Start(stop)
	if err := controller.run(*workers, stop); err != nil {
		klog.Fatalf("Running the controller: %v", err)
	}
}

// setupSignalHandler returns a channel that is closed at the first signal. The second one ends the program.
func setupSignalHandler() <-chan struct{} {
	stop, signals := make(chan struct{}), make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		close(stop)
		<-signals
		os.Exit(1)
	}()
	return stop
}
