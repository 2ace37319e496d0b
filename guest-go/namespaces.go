package wasmop

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/wasmop/wasmop/guest-go/cache"
)

// apply restricts the watches of a controller to the manager's namespaces. Namespaces of a watch itself take
// precedence.
func (o *Options) apply(c *controllerSpec) error {
	if o.Namespace != "" && len(o.Cache.DefaultNamespaces) > 0 {
		return errors.New("the options have both Namespace and Cache.DefaultNamespaces: remove one")
	}
	c.setNamespaces(o.Namespace, o.Cache.DefaultNamespaces)
	if err := o.applyTo(&c.Primary); err != nil {
		return err
	}
	// The builder holds the same slices.
	c.Watches = slices.Clone(c.Watches)
	for i := range c.Watches {
		if err := o.applyTo(&c.Watches[i]); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) applyTo(w *watchSpec) error {
	ofKind, err := o.ofKind(w)
	switch {
	case err != nil:
		return err
	case w.Namespace != nil || len(w.Namespaces) > 0:
	case len(ofKind) > 0:
		w.setNamespaces(names(ofKind))
	case !w.namespaced && (o.Namespace != "" || len(o.Cache.DefaultNamespaces) > 0):
		// Namespaces do not restrict cluster-scoped kinds.
		w.setNamespaces(nil)
	}
	return nil
}

// ofKind returns the namespaces that the options contain for a kind.
func (o *Options) ofKind(w *watchSpec) (map[string]cache.Config, error) {
	for object, settings := range o.Cache.ByObject {
		r := object.Resource()
		if r.Group != w.Group || r.Kind != w.Kind || len(settings.Namespaces) == 0 {
			continue
		}
		if !r.Namespaced {
			return nil, fmt.Errorf("Cache.ByObject has namespaces for %s, which is cluster-scoped", r.Kind)
		}
		return settings.Namespaces, nil
	}
	return nil, nil
}

func (c *controllerSpec) setNamespaces(one string, several map[string]cache.Config) {
	c.Namespace, c.Namespaces = one, nil
	if list := names(several); len(list) == 1 {
		c.Namespace = list[0]
	} else {
		c.Namespaces = list
	}
}

// setNamespaces restricts a watch to these namespaces. Empty means all.
func (w *watchSpec) setNamespaces(namespaces []string) {
	w.Namespace, w.Namespaces = nil, nil
	switch len(namespaces) {
	case 0:
		w.Namespace = new(string)
	case 1:
		w.Namespace = &namespaces[0]
	default:
		w.Namespaces = namespaces
	}
}

// names returns the sorted keys, or none if they include all namespaces.
func names(namespaces map[string]cache.Config) []string {
	if _, all := namespaces[cache.AllNamespaces]; all {
		return nil
	}
	return slices.Sorted(maps.Keys(namespaces))
}
