package client

import (
	"net/url"
	"sort"
	"strconv"
	"strings"

	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// ListOption restricts a List or DeleteAllOf.
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

// MatchingFields restricts to objects whose fields have these values. The API server supports only few fields.
type MatchingFields map[string]string

func (m MatchingFields) applyToList(o *listOptions) { o.query.Set("fieldSelector", equalities(m)) }

// MatchingLabelSelector restricts with a label selector in kubectl's syntax.
func MatchingLabelSelector(selector string) ListOption {
	return listOption(func(o *listOptions) { o.query.Set("labelSelector", selector) })
}

// Limit returns one page with at most this many objects. The list's Continue is the token of the next page.
func Limit(n int) ListOption { return listOption(func(o *listOptions) { o.limit = n }) }

// Continue returns the page with this token, which comes from the previous page.
func Continue(token string) ListOption {
	return listOption(func(o *listOptions) { o.query.Set("continue", token) })
}

// GetOption configures a Get.
type GetOption interface{ applyToGet(url.Values) }

// ResourceVersion requires a state that is not older. "0" is FromCache.
type ResourceVersion string

func (v ResourceVersion) applyToList(o *listOptions) { o.query.Set("resourceVersion", string(v)) }

func (v ResourceVersion) applyToGet(q url.Values) { q.Set("resourceVersion", string(v)) }

// FromCache allows a slightly outdated response that reflects at least the controller's own writes. For kinds watched
// with wasmop.Cached the host answers from memory, otherwise from the API server.
const FromCache ResourceVersion = "0"

// equalities returns a selector. It sorts the terms, so that equal maps give equal requests.
func equalities(m map[string]string) string {
	terms := make([]string, 0, len(m))
	for k, v := range m {
		terms = append(terms, k+"="+v)
	}
	sort.Strings(terms)
	return strings.Join(terms, ",")
}

// WriteOption configures a write.
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

// FieldOwner sets the field manager of the write. The default is the package's name.
type FieldOwner string

func (f FieldOwner) applyToWrite(o *writeOptions) { o.query.Set("fieldManager", string(f)) }

// ForceOwnership takes over fields that another field manager has applied.
var ForceOwnership WriteOption = writeOption(func(o *writeOptions) { o.query.Set("force", "true") })

// DryRunAll validates the write without storing it.
var DryRunAll WriteOption = writeOption(func(o *writeOptions) { o.query.Set("dryRun", "All") })

// WithSubResourceBody sets the body of SubResource(…).Update or Patch if the subresource has another type than the
// object, such as a Scale. The response replaces the body.
func WithSubResourceBody(body Object) WriteOption {
	return writeOption(func(o *writeOptions) { o.body = body })
}

// DeleteOption configures a Delete.
type DeleteOption interface{ applyToDelete(*deleteOptions) }

// deleteOptions is meta.k8s.io/v1 DeleteOptions.
type deleteOptions struct {
	metav1.TypeMeta    `json:",inline"`
	GracePeriodSeconds *int64         `json:"gracePeriodSeconds,omitempty"`
	PropagationPolicy  string         `json:"propagationPolicy,omitempty"`
	Preconditions      *Preconditions `json:"preconditions,omitempty"`
}

// Preconditions must hold, otherwise the Delete fails.
type Preconditions struct {
	UID             metav1.UID `json:"uid,omitempty"`
	ResourceVersion string     `json:"resourceVersion,omitempty"`
}

func (p Preconditions) applyToDelete(o *deleteOptions) { o.Preconditions = &p }

// PropagationPolicy sets how dependents are deleted: Background, Foreground or Orphan.
type PropagationPolicy string

func (p PropagationPolicy) applyToDelete(o *deleteOptions) { o.PropagationPolicy = string(p) }

// GracePeriodSeconds sets how long the object has to terminate.
type GracePeriodSeconds int64

func (g GracePeriodSeconds) applyToDelete(o *deleteOptions) {
	n := int64(g)
	o.GracePeriodSeconds = &n
}

const pageSize = 500 // as in kubectl and client-go's pager

func (o *listOptions) encode() string {
	q := o.query
	if o.limit > 0 {
		q.Set("limit", strconv.Itoa(o.limit))
	}
	return q.Encode()
}
