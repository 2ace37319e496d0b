package client

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/codec"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// readList reads a list: one page if there is a limit, otherwise all pages. It decodes items from the response as it
// arrives, so memory holds each item only once.
func readList(ctx context.Context, path string, o *listOptions, list ObjectList) error {
	value := reflect.ValueOf(list).Elem()
	fresh := reflect.New(value.Type())
	into := fresh.Interface().(ObjectList)
	into.Clear()
	isPage := o.limit > 0
	if !isPage {
		o.limit = pageSize
	}
	for {
		meta, err := readPage(ctx, withQuery(path, o.encode()), into)
		if err != nil {
			return err
		}
		*into.GetListMeta() = meta
		if isPage || meta.Continue == "" {
			value.Set(fresh.Elem())
			return nil
		}
		o.query.Set("continue", meta.Continue)
	}
}

func readPage(ctx context.Context, path string, list ObjectList) (metav1.ListMeta, error) {
	var meta metav1.ListMeta
	request := abi.Request{Method: "GET", Path: path, Headers: "accept: application/json\n"}
	call, err := openWithRetries(ctx, request)
	if err != nil {
		return meta, fmt.Errorf("GET %s: %w", path, err)
	}
	body := call.Body(ctx)
	defer body.Close()
	if err := decodeList(codec.NewDecoder(body), list, &meta); err != nil {
		return meta, fmt.Errorf("GET %s: cannot decode the response into %T: %w", path, list, err)
	}
	return meta, nil
}

// decodeList decodes a list in JSON and appends its items.
func decodeList(d *json.Decoder, list ObjectList, meta *metav1.ListMeta) error {
	if err := expect(d, json.Delim('{')); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		switch key {
		case "metadata":
			err = d.Decode(meta)
		case "kind":
			err = d.Decode(&list.GetTypeMeta().Kind)
		case "apiVersion":
			err = d.Decode(&list.GetTypeMeta().APIVersion)
		case "items":
			err = decodeItems(d, list)
		default:
			err = d.Decode(new(json.RawMessage))
		}
		if err != nil {
			return err
		}
	}
	return expect(d, json.Delim('}'))
}

func decodeItems(d *json.Decoder, list ObjectList) error {
	begin, err := d.Token()
	if err != nil || begin == nil { // null
		return err
	}
	if begin != json.Delim('[') {
		return fmt.Errorf("expected an array of items, found %v", begin)
	}
	for d.More() {
		if err := list.AppendItem(func(item any) error { return codec.Decode(d, item) }); err != nil {
			return err
		}
	}
	return expect(d, json.Delim(']'))
}

func expect(d *json.Decoder, want json.Delim) error {
	switch got, err := d.Token(); {
	case err != nil:
		return err
	case got != want:
		return fmt.Errorf("found %v instead of %v", got, want)
	}
	return nil
}
