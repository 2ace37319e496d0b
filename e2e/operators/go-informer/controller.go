package main

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

const (
	label  = "mirror.example.com/copy"
	suffix = "-copy"
)

type controller struct {
	client kubernetes.Interface
	lister corelisters.ConfigMapLister
	synced cache.InformerSynced
	queue  workqueue.TypedRateLimitingInterface[cache.ObjectName]
}

func newController(client kubernetes.Interface, informer coreinformers.ConfigMapInformer) *controller {
	c := &controller{
		client: client,
		lister: informer.Lister(),
		synced: informer.Informer().HasSynced,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.DefaultTypedControllerRateLimiter[cache.ObjectName](),
			workqueue.TypedRateLimitingQueueConfig[cache.ObjectName]{Name: "mirror"},
		),
	}
	informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    c.enqueue,
		UpdateFunc: func(_, object any) { c.enqueue(object) },
		DeleteFunc: c.enqueueOwner,
	})
	return c
}

// enqueue adds an object with the label, or the owner of a copy.
func (c *controller) enqueue(object any) {
	if config, ok := object.(*corev1.ConfigMap); ok && config.Labels[label] == "yes" {
		c.queue.Add(cache.MetaObjectToName(config))
		return
	}
	c.enqueueOwner(object)
}

func (c *controller) enqueueOwner(object any) {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	if config, ok := object.(*corev1.ConfigMap); ok {
		if owner := metav1.GetControllerOf(config); owner != nil && owner.Kind == "ConfigMap" {
			c.queue.Add(cache.NewObjectName(config.Namespace, owner.Name))
		}
	}
}

func (c *controller) run(ctx context.Context, workers int) error {
	defer c.queue.ShutDown()
	if !cache.WaitForCacheSync(ctx.Done(), c.synced) {
		return errors.New("the caches did not sync")
	}
	klog.InfoS("Starting workers", "count", workers)
	for range workers {
		go c.work(ctx)
	}
	<-ctx.Done()
	return nil
}

func (c *controller) work(ctx context.Context) {
	for {
		name, shutdown := c.queue.Get()
		if shutdown {
			return
		}
		if err := c.sync(ctx, name); err != nil {
			klog.ErrorS(err, "Sync failed", "object", name)
			c.queue.AddRateLimited(name)
		} else {
			c.queue.Forget(name)
			klog.InfoS("Synced", "object", name)
		}
		c.queue.Done(name)
	}
}

func (c *controller) sync(ctx context.Context, name cache.ObjectName) error {
	original, err := c.lister.ConfigMaps(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	maps := c.client.CoreV1().ConfigMaps(name.Namespace)
	copied, err := c.lister.ConfigMaps(name.Namespace).Get(name.Name + suffix)
	if apierrors.IsNotFound(err) {
		copied = &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Name: name.Name + suffix,
				OwnerReferences: []metav1.OwnerReference{
					*metav1.NewControllerRef(original, corev1.SchemeGroupVersion.WithKind("ConfigMap")),
				},
			},
			Data: original.Data,
		}
		if _, err := maps.Create(ctx, copied, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating the copy: %w", err)
		}
		return nil
	}
	if err != nil || equal(copied.Data, original.Data) {
		return err
	}
	copied = copied.DeepCopy()
	copied.Data = original.Data
	_, err = maps.Update(ctx, copied, metav1.UpdateOptions{})
	return err
}
