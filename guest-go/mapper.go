package wasmop

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
	"github.com/wasmop/wasmop/guest-go/internal/codec"
	"github.com/wasmop/wasmop/guest-go/metav1"
)

// mapper calls a MapFunc and remembers its result for each watched object. A change affects the previous as well as the
// new result.
type mapper struct {
	object reflect.Type // the struct type
	f      MapFunc

	mu sync.Mutex
	// mapped contains the latest result for each watched object, by the object's key.
	mapped map[string]mapping
	// active counts running calls of keys. While it is positive, mapped keeps empty entries for the objects in none,
	// because a call for an earlier change may still be running.
	active int
	none   []string
}

// mapping is the result of a MapFunc.
type mapping struct {
	task uint64 // increases with every change
	keys string // joined by newlines
}

// keys returns the keys that a change of a watched object affects. If the object is gone, data may be only a
// PartialObjectMetadata.
func (m *mapper) keys(ctx context.Context, data []byte, gone bool) []string {
	m.begin()
	defer m.end()
	var meta struct {
		metav1.TypeMeta
		Metadata struct{ Name, Namespace string } `json:"metadata"`
	}
	if err := codec.Unmarshal(data, &meta); err != nil {
		slog.Error("a watched object is not JSON", "type", m.object.String(), "error", err)
		return nil
	}
	source := client.ObjectKey{Namespace: meta.Metadata.Namespace, Name: meta.Metadata.Name}.String()
	var named []string
	if !gone || meta.Kind != "PartialObjectMetadata" {
		value := reflect.New(m.object).Interface()
		if err := codec.Unmarshal(data, value); err != nil {
			slog.Error("cannot decode a watched object as the type of its watch", "object", source, "type", m.object.String(), "error", err)
			if !gone {
				return m.before(source)
			}
		} else {
			for _, r := range m.f(ctx, value.(client.Object)) {
				named = append(named, r.String())
			}
		}
	}
	before := m.before(source)
	if gone {
		m.remember(source, abi.Task(ctx), nil)
	} else {
		m.remember(source, abi.Task(ctx), named)
	}
	return unique(append(before, named...))
}

func (m *mapper) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active++
}

func (m *mapper) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active--; m.active > 0 {
		return
	}
	for _, source := range m.none {
		if m.mapped[source].keys == "" {
			delete(m.mapped, source)
		}
	}
	m.none = nil
}

// before returns the latest result for an object.
func (m *mapper) before(source string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if keys := m.mapped[source].keys; keys != "" {
		return strings.Split(keys, "\n")
	}
	return nil
}

func (m *mapper) remember(source string, task uint64, named []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mapped[source].task > task {
		return // a later change has finished first
	}
	if m.mapped == nil {
		m.mapped = map[string]mapping{}
	}
	m.mapped[source] = mapping{task, strings.Join(unique(named), "\n")}
	if len(named) == 0 {
		m.none = append(m.none, source)
	}
}

// unique sorts and deduplicates keys.
func unique(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}
