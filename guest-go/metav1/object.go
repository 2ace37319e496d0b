package metav1

// Resource identifies a kind in the API.
type Resource struct {
	// Group is empty for the core group.
	Group   string
	Version string
	Kind    string
	// Plural is the name in URLs, such as "deployments".
	Plural string
	// Namespaced is false for cluster-scoped kinds.
	Namespaced bool
}

// APIVersion is the apiVersion field of the kind's objects.
func (r Resource) APIVersion() string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// Object is a pointer to a struct that embeds TypeMeta and ObjectMeta and has the method Resource. There is no scheme;
// the method replaces the registration of kinds.
//
//	type Website struct {
//		metav1.TypeMeta   `json:",inline"`
//		metav1.ObjectMeta `json:"metadata"`
//		Spec              WebsiteSpec `json:"spec"`
//	}
//
//	func (*Website) Resource() metav1.Resource {
//		return metav1.Resource{Group: "demo.example.com", Version: "v1", Kind: "Website", Plural: "websites", Namespaced: true}
//	}
//
// Resource must work on a nil pointer.
type Object interface {
	Resource() Resource
	GetTypeMeta() *TypeMeta
	GetObjectMeta() *ObjectMeta
	GetName() string
	GetNamespace() string
	GetUID() UID
}

// ObjectList is a pointer to a List of some kind, or to a struct that embeds one.
type ObjectList interface {
	GetTypeMeta() *TypeMeta
	GetListMeta() *ListMeta
	ItemResource() Resource
	Clear()
	AppendItem(fill func(item any) error) error
}

// ListMeta is the metadata of a list.
type ListMeta struct {
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// Continue is the token for the next page, empty on the last one.
	Continue           string `json:"continue,omitempty"`
	RemainingItemCount *int64 `json:"remainingItemCount,omitempty"`
}

// List is a list of objects of the kind T, where *T is an Object.
type List[T any] struct {
	TypeMeta `json:",inline"`
	ListMeta `json:"metadata"`
	Items    []T `json:"items"`
}

// GetListMeta makes *List an ObjectList.
func (l *List[T]) GetListMeta() *ListMeta { return &l.ListMeta }

// Clear removes all items.
func (l *List[T]) Clear() { l.Items = []T{} }

// AppendItem appends an item. fill decodes into its pointer, a *T. The client fills lists with it.
func (l *List[T]) AppendItem(fill func(item any) error) error {
	var item T
	l.Items = append(l.Items, item)
	return fill(&l.Items[len(l.Items)-1])
}

// ItemResource returns the resource of the items. It is zero if *T is not an Object.
func (l *List[T]) ItemResource() Resource {
	if o, ok := any((*T)(nil)).(interface{ Resource() Resource }); ok {
		return o.Resource()
	}
	return Resource{}
}
