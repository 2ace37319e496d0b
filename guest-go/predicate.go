package wasmop

// WatchOption narrows what For, Owns or Watches watches.
type WatchOption func(*watchSpec)

// Predicate says which changes cause reconciles. Predicates are evaluated by the host, so that a
// change that does not count leaves the controller suspended; hence there are only the ones here.
type Predicate interface{ apply(*watchSpec) }

// WithPredicates lets only changes through that pass all of the predicates.
func WithPredicates(predicates ...Predicate) WatchOption {
	return func(w *watchSpec) {
		for _, p := range predicates {
			p.apply(w)
		}
	}
}

// GenerationChangedPredicate lets no updates through that leave metadata.generation as it was,
// such as those of the status. Some kinds, ConfigMap and Secret among them, have no generation: all
// of their updates pass.
type GenerationChangedPredicate struct{}

func (GenerationChangedPredicate) apply(w *watchSpec) { w.GenerationChanged = true }

// LabelSelectorPredicate watches only objects that match a label selector in kubectl's syntax.
type LabelSelectorPredicate string

func (p LabelSelectorPredicate) apply(w *watchSpec) {
	w.LabelSelector = conjunction(w.LabelSelector, string(p))
}

// FieldSelectorPredicate watches only objects that match a field selector in kubectl's syntax.
type FieldSelectorPredicate string

func (p FieldSelectorPredicate) apply(w *watchSpec) {
	w.FieldSelector = conjunction(w.FieldSelector, string(p))
}

// CELPredicate lets only changes through of which a CEL expression is true: over object and
// oldObject, which is null for a new one. Deletions and what is seen first always pass.
//
//	wasmop.CELPredicate("object.spec != oldObject.spec")
type CELPredicate string

func (p CELPredicate) apply(w *watchSpec) {
	if w.Predicate == "" {
		w.Predicate = string(p)
		return
	}
	w.Predicate = "(" + w.Predicate + ") && (" + string(p) + ")"
}

func conjunction(a, b string) string {
	if a == "" {
		return b
	}
	return a + "," + b
}

// MatchEveryOwner makes Owns reconcile every owner of the right kind, not only the one that controls
// the object.
func MatchEveryOwner(w *watchSpec) { w.Relation = relationOwner }

// InNamespace watches only objects of one namespace, or of several, whatever the Options of the manager say; ""
// watches those of all. The owner of the host may limit the namespaces further.
func InNamespace(namespace string, more ...string) WatchOption {
	return func(w *watchSpec) { w.setNamespaces(append([]string{namespace}, more...)) }
}

// Cached makes the host keep the objects that For, Owns or Watches watches. Reads of them with
// client.FromCache come from the host's memory then, never older than what the controller has
// written itself; without it every read asks the API server.
func Cached(w *watchSpec) { w.Cached = true }

// IgnoreOwnWrites leaves out changes that the controller made itself: what it writes while it reconciles an object
// does not have that object reconciled again. Only of writes that create an object or say which version they
// change is that certain: Create, Update and Status().Update of what was read before, and patches with
// metadata.resourceVersion. Others count as ever.
func IgnoreOwnWrites(w *watchSpec) { w.IgnoreOwnWrites = true }
