package wasmop

// WatchOption configures a watch of For, Owns or Watches.
type WatchOption func(*watchSpec)

// Predicate determines which changes cause reconciles. The host evaluates predicates, so an ignored change does not
// resume the controller. Therefore only the predicates of this package exist.
type Predicate interface{ apply(*watchSpec) }

// WithPredicates ignores changes that do not satisfy all of the predicates.
func WithPredicates(predicates ...Predicate) WatchOption {
	return func(w *watchSpec) {
		for _, p := range predicates {
			p.apply(w)
		}
	}
}

// GenerationChangedPredicate ignores updates that leave metadata.generation unchanged, such as status updates. Some
// kinds, such as ConfigMap and Secret, have no generation. Their updates are never ignored.
type GenerationChangedPredicate struct{}

func (GenerationChangedPredicate) apply(w *watchSpec) { w.GenerationChanged = true }

// LabelSelectorPredicate restricts the watch to objects that match a label selector in kubectl's syntax.
type LabelSelectorPredicate string

func (p LabelSelectorPredicate) apply(w *watchSpec) {
	w.LabelSelector = conjunction(w.LabelSelector, string(p))
}

// FieldSelectorPredicate restricts the watch to objects that match a field selector in kubectl's syntax.
type FieldSelectorPredicate string

func (p FieldSelectorPredicate) apply(w *watchSpec) {
	w.FieldSelector = conjunction(w.FieldSelector, string(p))
}

// CELPredicate ignores changes for which a CEL expression over object and oldObject is false. oldObject is null for a
// new object. Deletions and objects that the host sees for the first time are never ignored.
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

// MatchEveryOwner makes Owns reconcile all owners of the reconciled kind, not only the controller owner.
func MatchEveryOwner(w *watchSpec) { w.Relation = relationOwner }

// InNamespace restricts the watch to these namespaces. It takes precedence over the Options of the manager, and ""
// means all namespaces. The owner of the host may restrict the namespaces further.
func InNamespace(namespace string, more ...string) WatchOption {
	return func(w *watchSpec) { w.setNamespaces(append([]string{namespace}, more...)) }
}

// Cached makes the host cache the watched objects. The host then answers reads with client.FromCache from memory, and
// the result always reflects the controller's own writes. Without Cached, every read goes to the API server.
func Cached(w *watchSpec) { w.Cached = true }

// IgnoreOwnWrites ignores changes that result from the controller's own writes during a reconcile of the same object.
// The host can attribute only writes that create an object or name the version they change. These are Create, Update
// and Status().Update of an object that was read before, and patches with metadata.resourceVersion. Other writes still
// cause a reconcile.
func IgnoreOwnWrites(w *watchSpec) { w.IgnoreOwnWrites = true }
