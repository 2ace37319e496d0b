package cache

import "github.com/wasmop/wasmop/guest-go/client"

// AllNamespaces is the key for all namespaces in a map of namespaces.
const AllNamespaces = ""

// Options restricts the watches of a manager's controllers. For selectors, see LabelSelectorPredicate and
// FieldSelectorPredicate in package wasmop.
type Options struct {
	// DefaultNamespaces are the namespaces to watch. Empty means all. Cluster-scoped kinds are not restricted. The
	// owner of the host may restrict the namespaces further.
	DefaultNamespaces map[string]Config

	// ByObject contains the settings of individual kinds, which take precedence. The keys are objects of the kinds:
	//
	//	map[client.Object]cache.ByObject{&corev1.Secret{}: {Namespaces: map[string]cache.Config{"system": {}}}}
	ByObject map[client.Object]ByObject
}

// ByObject contains the settings of one kind.
type ByObject struct {
	// Namespaces replaces DefaultNamespaces if it is not empty. The kind must be namespaced.
	Namespaces map[string]Config
}

// Config contains the settings of a namespace. There are none yet.
type Config struct{}
