package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/wasmop/wasmop/guest-go/apierrors"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// New returns a client. A Manager has one already; see Manager.GetClient.
func New() Client { return hostClient{} }

type hostClient struct{}

func (hostClient) Get(ctx context.Context, key ObjectKey, obj Object, opts ...GetOption) error {
	path, err := objectPath(obj.Resource(), key, "")
	if err != nil {
		return err
	}
	return get(ctx, path, obj, opts)
}

func get(ctx context.Context, path string, obj Object, opts []GetOption) error {
	q := url.Values{}
	for _, opt := range opts {
		opt.applyToGet(q)
	}
	return exchange(ctx, abi.Request{Method: "GET", Path: withQuery(path, q.Encode())}, obj)
}

func (c hostClient) List(ctx context.Context, list ObjectList, opts ...ListOption) error {
	o := listOptions{query: url.Values{}}
	for _, opt := range opts {
		opt.applyToList(&o)
	}
	path, err := collectionPath(list.ItemResource(), o.namespace)
	if err != nil {
		return err
	}
	return readList(ctx, path, &o, list)
}

func (hostClient) Create(ctx context.Context, obj Object, opts ...WriteOption) error {
	r := obj.Resource()
	if r.Namespaced && obj.GetNamespace() == "" {
		return fmt.Errorf("%s %s has no namespace", r.Kind, obj.GetName())
	}
	path, err := collectionPath(r, obj.GetNamespace())
	if err != nil {
		return err
	}
	return write(ctx, "POST", path, "application/json", obj, encode, optionsOf(opts))
}

func (c hostClient) Update(ctx context.Context, obj Object, opts ...WriteOption) error {
	return subResource{}.Update(ctx, obj, opts...)
}

func (c hostClient) Patch(ctx context.Context, obj Object, patch Patch, opts ...WriteOption) error {
	return subResource{}.Patch(ctx, obj, patch, opts...)
}

func (hostClient) Delete(ctx context.Context, obj Object, opts ...DeleteOption) error {
	path, err := objectPath(obj.Resource(), ObjectKeyFromObject(obj), "")
	if err != nil {
		return err
	}
	r := abi.Request{Method: "DELETE", Path: path}
	if len(opts) > 0 {
		o := deleteOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}}
		for _, opt := range opts {
			opt.applyToDelete(&o)
		}
		if r.Body, err = json.Marshal(&o); err != nil {
			return err
		}
		r.Headers = "content-type: application/json\n"
	}
	return exchange(ctx, r, nil)
}

func (hostClient) DeleteAllOf(ctx context.Context, obj Object, opts ...ListOption) error {
	o := listOptions{query: url.Values{}}
	for _, opt := range opts {
		opt.applyToList(&o)
	}
	path, err := collectionPath(obj.Resource(), o.namespace)
	if err != nil {
		return err
	}
	return exchange(ctx, abi.Request{Method: "DELETE", Path: withQuery(path, o.encode())}, nil)
}

func (hostClient) Status() SubResourceWriter { return subResource{"status"} }

func (hostClient) SubResource(name string) SubResourceClient { return subResource{name} }

func write(ctx context.Context, method, path, contentType string, obj Object, body func(Object) ([]byte, error), o *writeOptions) error {
	b, err := body(obj)
	if err != nil {
		return err
	}
	return exchange(ctx, abi.Request{
		Method:  method,
		Path:    withQuery(path, o.query.Encode()),
		Headers: "content-type: " + contentType + "\n",
		Body:    b,
	}, obj)
}

// exchange sends a request and decodes the response into out, unless out is nil.
func exchange(ctx context.Context, r abi.Request, out any) error {
	r.Headers += "accept: application/json\n"
	answer, err := doWithRetries(ctx, r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", r.Method, r.Path, err)
	}
	if answer.Status >= 300 {
		return apierrors.FromResponse(answer.Status, answer.Body, r.Method+" "+r.Path)
	}
	if out == nil || r.Method == "POST" && isOnlyStatus(answer.Body, out) {
		return nil
	}
	if err := decode(answer.Body, out); err != nil {
		return fmt.Errorf("%s %s: cannot decode the response into %T: %w", r.Method, r.Path, out, err)
	}
	return nil
}

// isOnlyStatus reports whether the response is a Status instead of an object. This is the case for evictions, for
// example.
func isOnlyStatus(body []byte, out any) bool {
	obj, ok := out.(Object)
	if !ok || obj.Resource().Kind == "Status" {
		return false
	}
	var t metav1.TypeMeta
	return json.Unmarshal(body, &t) == nil && t.APIVersion == "v1" && t.Kind == "Status"
}

func objectPath(r metav1.Resource, key ObjectKey, sub string) (string, error) {
	if key.Name == "" {
		return "", errors.New(r.Kind + " has no name")
	}
	if r.Namespaced && key.Namespace == "" {
		return "", fmt.Errorf("%s %s has no namespace", r.Kind, key.Name)
	}
	if !r.Namespaced {
		key.Namespace = "" // callers often use the namespace of the owner for cluster-scoped objects
	}
	path, err := collectionPath(r, key.Namespace)
	if err != nil {
		return "", err
	}
	path += "/" + url.PathEscape(key.Name)
	if sub != "" {
		path += "/" + sub
	}
	return path, nil
}

func collectionPath(r metav1.Resource, namespace string) (string, error) {
	if r.Version == "" || r.Plural == "" {
		return "", fmt.Errorf("the Resource method of %q does not return a Version and a Plural", r.Kind)
	}
	path := "/apis/" + r.Group + "/" + r.Version
	if r.Group == "" {
		path = "/api/" + r.Version
	}
	if r.Namespaced && namespace != "" {
		path += "/namespaces/" + url.PathEscape(namespace)
	}
	return path + "/" + r.Plural, nil
}

func withQuery(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}
