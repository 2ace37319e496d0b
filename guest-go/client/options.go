package client

import (
	"net/url"
	"sort"
	"strconv"
	"strings"

	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// ListOption narrows a List or DeleteAllOf.
type ListOption interface{ applyToList(*listOptions) }

type listOptions struct {
	namespace string
	query     url.Values
	limit     int
}

type listOption func(*listOptions)

func (f listOption) applyToList(o *listOptions) { f(o) }

// InNamespace restricts to one namespace.
type InNamespace string

func (n InNamespace) applyToList(o *listOptions) { o.namespace = string(n) }

// MatchingLabels restricts to objects that have all of these labels.
type MatchingLabels map[string]string

func (m MatchingLabels) applyToList(o *listOptions) { o.query.Set("labelSelector", equalities(m)) }

// MatchingFields restricts to objects whose fields have these values; few fields are supported by
// the API server.
type MatchingFields map[string]string

func (m MatchingFields) applyToList(o *listOptions) { o.query.Set("fieldSelector", equalities(m)) }

// MatchingLabelSelector restricts by a label selector in kubectl's syntax.
func MatchingLabelSelector(selector string) ListOption {
	return listOption(func(o *listOptions) { o.query.Set("labelSelector", selector) })
}

// Limit returns at most one page of that many objects; the list's Continue then leads to the next.
func Limit(n int) ListOption { return listOption(func(o *listOptions) { o.limit = n }) }

// Continue goes on with the page after the one that had this token.
func Continue(token string) ListOption {
	return listOption(func(o *listOptions) { o.query.Set("continue", token) })
}

// GetOption changes how an object is read.
type GetOption interface{ applyToGet(url.Values) }

// ResourceVersion asks for a state that is not older; "0" is FromCache.
type ResourceVersion string

func (v ResourceVersion) applyToList(o *listOptions) { o.query.Set("resourceVersion", string(v)) }

func (v ResourceVersion) applyToGet(q url.Values) { q.Set("resourceVersion", string(v)) }

// FromCache allows an answer that may be a little old, but not older than the controller's own
// writes. It comes from the host's memory for kinds that are watched with wasmop.Cached, and
// otherwise from the API server.
const FromCache ResourceVersion = "0"

// equalities is a selector, with its terms in order so that equal maps give equal requests.
func equalities(m map[string]string) string {
	terms := make([]string, 0, len(m))
	for k, v := range m {
		terms = append(terms, k+"="+v)
	}
	sort.Strings(terms)
	return strings.Join(terms, ",")
}

// WriteOption changes how an object is written.
type WriteOption interface{ applyToWrite(*writeOptions) }

type writeOptions struct {
	query url.Values
	body  Object
}

func optionsOf(opts []WriteOption) *writeOptions {
	o := &writeOptions{query: url.Values{}}
	if owner := abi.Name(); owner != "" {
		o.query.Set("fieldManager", owner)
	}
	for _, opt := range opts {
		opt.applyToWrite(o)
	}
	return o
}

func (o *writeOptions) bodyOr(obj Object) Object {
	if o.body != nil {
		return o.body
	}
	return obj
}

type writeOption func(*writeOptions)

func (f writeOption) applyToWrite(o *writeOptions) { f(o) }

// FieldOwner is the field manager the write is made as. Without it the client uses the package's name.
type FieldOwner string

func (f FieldOwner) applyToWrite(o *writeOptions) { o.query.Set("fieldManager", string(f)) }

// ForceOwnership takes over fields that another manager has applied.
var ForceOwnership WriteOption = writeOption(func(o *writeOptions) { o.query.Set("force", "true") })

// DryRunAll validates and answers without storing anything.
var DryRunAll WriteOption = writeOption(func(o *writeOptions) { o.query.Set("dryRun", "All") })

// WithSubResourceBody is the subresource that SubResource(…).Update or Patch writes, and that the answer
// replaces, if it is of another type than the object: a Scale, for example.
func WithSubResourceBody(body Object) WriteOption {
	return writeOption(func(o *writeOptions) { o.body = body })
}

// DeleteOption changes how an object is deleted.
type DeleteOption interface{ applyToDelete(*deleteOptions) }

// deleteOptions is meta.k8s.io/v1 DeleteOptions.
type deleteOptions struct {
	metav1.TypeMeta    `json:",inline"`
	GracePeriodSeconds *int64         `json:"gracePeriodSeconds,omitempty"`
	PropagationPolicy  string         `json:"propagationPolicy,omitempty"`
	Preconditions      *Preconditions `json:"preconditions,omitempty"`
}

// Preconditions must hold for a Delete to happen.
type Preconditions struct {
	UID             metav1.UID `json:"uid,omitempty"`
	ResourceVersion string     `json:"resourceVersion,omitempty"`
}

func (p Preconditions) applyToDelete(o *deleteOptions) { o.Preconditions = &p }

// PropagationPolicy is Background, Foreground or Orphan.
type PropagationPolicy string

func (p PropagationPolicy) applyToDelete(o *deleteOptions) { o.PropagationPolicy = string(p) }

// GracePeriodSeconds is how long the object is given to end.
type GracePeriodSeconds int64

func (g GracePeriodSeconds) applyToDelete(o *deleteOptions) {
	n := int64(g)
	o.GracePeriodSeconds = &n
}

const pageSize = 500 // as kubectl and client-go's pager

func (o *listOptions) encode() string {
	q := o.query
	if o.limit > 0 {
		q.Set("limit", strconv.Itoa(o.limit))
	}
	return q.Encode()
}
