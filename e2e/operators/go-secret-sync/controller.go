package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

const (
	// toAnnotation has the namespaces that get a copy, separated by commas.
	toAnnotation = "sync.example.com/to"
	// sourceLabel of a copy is the namespace of its source.
	sourceLabel = "sync.example.com/source"
)

type controller struct {
	client     kubernetes.Interface
	secrets    corelisters.SecretLister
	namespaces corelisters.NamespaceLister
	synced     []cache.InformerSynced
	queue      workqueue.RateLimitingInterface
	recorder   record.EventRecorder
}

func newController(
	client kubernetes.Interface, secrets coreinformers.SecretInformer, namespaces coreinformers.NamespaceInformer,
) *controller {
	broadcaster := record.NewBroadcaster()
	broadcaster.StartStructuredLogging(0)
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	c := &controller{
		client:     client,
		secrets:    secrets.Lister(),
		namespaces: namespaces.Lister(),
		synced:     []cache.InformerSynced{secrets.Informer().HasSynced, namespaces.Informer().HasSynced},
		queue:      workqueue.NewNamedRateLimitingQueue(workqueue.DefaultControllerRateLimiter(), "Secrets"),
		recorder:   broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "secret-sync"}),
	}
	handlers := cache.ResourceEventHandlerFuncs{
		AddFunc:    c.enqueue,
		UpdateFunc: func(_, new interface{}) { c.enqueue(new) },
		DeleteFunc: c.enqueue,
	}
	_, err := secrets.Informer().AddEventHandler(handlers)
	utilruntime.Must(err)
	_, err = namespaces.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(interface{}) { c.enqueueAll() },
	})
	utilruntime.Must(err)
	return c
}

// enqueue queues the source of a Secret, which may be a copy.
func (c *controller) enqueue(object interface{}) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
	if err != nil {
		utilruntime.HandleError(err)
		return
	}
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	if secret, ok := object.(*corev1.Secret); ok && secret.Labels[sourceLabel] != "" {
		key = secret.Labels[sourceLabel] + "/" + secret.Name
	}
	c.queue.Add(key)
}

func (c *controller) enqueueAll() {
	secrets, err := c.secrets.List(labels.Everything())
	if err != nil {
		utilruntime.HandleError(err)
	}
	for _, secret := range secrets {
		c.enqueue(secret)
	}
}

func (c *controller) run(workers int, stop <-chan struct{}) error {
	defer utilruntime.HandleCrash()
	defer c.queue.ShutDown()
	klog.Info("Waiting for the caches")
	if !cache.WaitForCacheSync(stop, c.synced...) {
		return fmt.Errorf("the caches did not sync")
	}
	for i := 0; i < workers; i++ {
		go wait.Until(c.runWorker, time.Second, stop)
	}
	klog.InfoS("Started the workers", "count", workers)
	<-stop
	return nil
}

func (c *controller) runWorker() {
	for c.processNext() {
	}
}

func (c *controller) processNext() bool {
	item, shutdown := c.queue.Get()
	if shutdown {
		return false
	}
	defer c.queue.Done(item)
	if err := c.sync(item.(string)); err != nil {
		c.queue.AddRateLimited(item)
		utilruntime.HandleError(fmt.Errorf("syncing %v: %w", item, err))
		return true
	}
	c.queue.Forget(item)
	return true
}

// sync makes the copies of a Secret, and deletes those that it should not have.
func (c *controller) sync(key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return err
	}
	source, err := c.secrets.Secrets(namespace).Get(name)
	if err != nil && !errors.IsNotFound(err) {
		return err
	}
	wanted := map[string]bool{}
	if err == nil {
		for _, to := range strings.Split(source.Annotations[toAnnotation], ",") {
			if _, err := c.namespaces.Get(to); err == nil && to != namespace {
				wanted[to] = true
			}
		}
	}
	copies, err := c.secrets.List(labels.SelectorFromSet(labels.Set{sourceLabel: namespace}))
	if err != nil {
		return err
	}
	for _, copied := range copies {
		if copied.Name == name && !wanted[copied.Namespace] {
			err := c.client.CoreV1().Secrets(copied.Namespace).Delete(context.TODO(), name, metav1.DeleteOptions{})
			if err != nil && !errors.IsNotFound(err) {
				return err
			}
		}
	}
	for to := range wanted {
		if err := c.copy(source, to); err != nil {
			return err
		}
	}
	return nil
}

func (c *controller) copy(source *corev1.Secret, to string) error {
	existing, err := c.secrets.Secrets(to).Get(source.Name)
	if errors.IsNotFound(err) {
		created := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: to, Name: source.Name, Labels: map[string]string{sourceLabel: source.Namespace},
			},
			Type: source.Type,
			Data: source.Data,
		}
		if _, err := c.client.CoreV1().Secrets(to).Create(context.TODO(), created, metav1.CreateOptions{}); err != nil {
			return err
		}
		c.recorder.Eventf(source, corev1.EventTypeNormal, "Copied", "Copied to %s", to)
		return nil
	}
	if err != nil {
		return err
	}
	if existing.Labels[sourceLabel] != source.Namespace {
		c.recorder.Eventf(source, corev1.EventTypeWarning, "Exists", "Another Secret of this name is in %s", to)
		return nil
	}
	if equality.Semantic.DeepEqual(existing.Data, source.Data) {
		return nil
	}
	updated := existing.DeepCopy()
	updated.Data = source.Data
	_, err = c.client.CoreV1().Secrets(to).Update(context.TODO(), updated, metav1.UpdateOptions{})
	return err
}
