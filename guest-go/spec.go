package wasmop

// controllerSpec is the argument of the host's register; see docs/world.md.
type controllerSpec struct {
	Name                    string      `json:"name"`
	Namespace               string      `json:"namespace,omitempty"`
	Namespaces              []string    `json:"namespaces,omitempty"` // takes precedence over Namespace
	MaxConcurrentReconciles int         `json:"maxConcurrentReconciles"`
	Primary                 watchSpec   `json:"primary"`
	Watches                 []watchSpec `json:"watches,omitempty"`
}

type watchSpec struct {
	Group             string   `json:"group"`
	Version           string   `json:"version"`
	Kind              string   `json:"kind"`
	Plural            string   `json:"plural"`
	Namespace         *string  `json:"namespace,omitempty"` // nil means the controller's, and empty means all
	Namespaces        []string `json:"namespaces,omitempty"`
	Relation          relation `json:"relation"`
	LabelSelector     string   `json:"labelSelector,omitempty"`
	FieldSelector     string   `json:"fieldSelector,omitempty"`
	GenerationChanged bool     `json:"generationChanged,omitempty"`
	Predicate         string   `json:"predicate,omitempty"`
	Cached            bool     `json:"cached,omitempty"`
	IgnoreOwnWrites   bool     `json:"ignoreOwnWrites,omitempty"`

	namespaced bool
}

// relation determines the objects to reconcile when a watched object changes.
type relation string

const (
	relationOwn        relation = "own"
	relationOwner      relation = "owner"
	relationController relation = "controller"
	relationMap        relation = "map"
)
