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

// mapper calls a MapFunc. It remembers what the function named for each object: a change concerns what
// the object named before as well as what it names now.
type mapper struct {
	object reflect.Type // the struct, without the pointer
	f      MapFunc

	mu sync.Mutex
	// mapped has the keys named for each object, by the object's key.
	mapped map[string]mapping
	// active counts calls of keys. While there are any, mapped keeps an entry without keys for each object
	// in none: a call for an earlier change may still be under way.
	active int
	none   []string
}

type mapping struct {
	task uint64 // grows with every change
	keys string // joined by newlines
}

// keys returns what to reconcile because of a change of an object. If it is gone, data may be no more
// than its name, as PartialObjectMetadata.
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
			slog.Error("a watched object does not fit its type", "object", source, "type", m.object.String(), "error", err)
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

// before returns what was named for an object last.
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
		return // overtaken by a later change
	}
	if m.mapped == nil {
		m.mapped = map[string]mapping{}
	}
	m.mapped[source] = mapping{task, strings.Join(unique(named), "\n")}
	if len(named) == 0 {
		m.none = append(m.none, source)
	}
}

// unique returns the keys in order, each once.
func unique(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}
