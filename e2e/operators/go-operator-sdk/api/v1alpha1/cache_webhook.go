package v1alpha1

import (
	"errors"

	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// SetupWebhookWithManager adds the webhooks to a manager.
func (r *Cache) SetupWebhookWithManager(mgr ctrl.Manager) error {
	return ctrl.NewWebhookManagedBy(mgr).For(r).Complete()
}

var (
	_ webhook.Defaulter = &Cache{}
	_ webhook.Validator = &Cache{}
)

// Default sets the size.
func (r *Cache) Default() {
	if r.Spec.Size == 0 {
		r.Spec.Size = 1
	}
}

// ValidateCreate checks a new cache.
func (r *Cache) ValidateCreate() error {
	if r.Spec.Size < 0 {
		return errors.New("the size is negative")
	}
	return nil
}

// ValidateUpdate checks a changed cache.
func (r *Cache) ValidateUpdate(runtime.Object) error { return r.ValidateCreate() }

// ValidateDelete allows every deletion.
func (r *Cache) ValidateDelete() error { return nil }
