// Package cache says of which namespaces a manager's controllers watch objects, in the shapes of
// controller-runtime. The cache itself is the host's.
package cache

import "github.com/wasmop/wasmop/guest-go/client"

// AllNamespaces as a key of a map of namespaces stands for all of them.
const AllNamespaces = ""

// Options of a manager's cache. Selectors are given with the watches: see LabelSelectorPredicate and
// FieldSelectorPredicate in package wasmop.
type Options struct {
	// DefaultNamespaces are the namespaces whose objects are watched; none: all. Kinds without namespaces
	// are watched whole. The owner of the host may limit the namespaces further.
	DefaultNamespaces map[string]Config

	// ByObject has settings of single kinds, which take precedence. The keys are objects of the kinds:
	//
	//	map[client.Object]cache.ByObject{&corev1.Secret{}: {Namespaces: map[string]cache.Config{"system": {}}}}
	ByObject map[client.Object]ByObject
}

// ByObject are the settings of one kind.
type ByObject struct {
	// Namespaces in place of DefaultNamespaces; none: those. The kind must have namespaces.
	Namespaces map[string]Config
}

// Config has settings of a namespace. There are none yet.
type Config struct{}
