package probe

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/metav1"
	"github.com/wasmop/wasmop/guest-go/resource"
)

// odd is the smallest integer that a float64 cannot represent.
const odd = 1<<53 + 1

// values are values that JSON easily changes.
type values struct {
	Max    int64              `json:"max"`
	Min    int64              `json:"min"`
	Odd    int64              `json:"odd"`
	CPU    resource.Quantity  `json:"cpu"`
	Memory resource.Quantity  `json:"memory"`
	Port   metav1.IntOrString `json:"port"`
	Name   metav1.IntOrString `json:"name"`
	Micro  metav1.MicroTime   `json:"micro"`
	Text   string             `json:"text"`
}

// microTime is micro in JSON.
const microTime = "2026-01-02T03:04:05.000600Z"

func typedValues() *values {
	return &values{
		Max: math.MaxInt64, Min: math.MinInt64, Odd: odd, CPU: "1000m", Memory: "1024Mi",
		Port: metav1.FromInt(8080), Name: metav1.FromString("http"), Text: "<&>\u2028",
		Micro: metav1.MicroTime{Time: time.Date(2026, 1, 2, 3, 4, 5, 600_000, time.UTC)},
	}
}

// untypedValues has a field that the struct lacks.
func untypedValues() map[string]any {
	return map[string]any{
		"max": int64(math.MaxInt64), "min": int64(math.MinInt64), "odd": int64(odd), "cpu": "1000m", "memory": "1024Mi",
		"port": int64(8080), "name": "http", "micro": microTime, "text": "<&>\u2028", "extra": extra(),
	}
}

func extra() map[string]any { return map[string]any{"n": int64(odd), "max": int64(math.MaxInt64)} }

// typedProbe is a Probe with values, without spec.values.extra.
type typedProbe struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              typedPart `json:"spec"`
	Status            typedPart `json:"status,omitzero"`
}

type typedPart struct {
	Value  string  `json:"value,omitempty"`
	Values *values `json:"values,omitempty"`
}

func (*typedProbe) Resource() metav1.Resource { return (*Probe)(nil).Resource() }

func (p *typedProbe) set(inStatus bool, value string) {
	p.part(inStatus).Value, p.part(inStatus).Values = value, typedValues()
}

func (p *typedProbe) clear(inStatus bool) { *p.part(inStatus) = typedPart{} }

func (p *typedProbe) holds(inStatus bool) (string, any) {
	part := p.part(inStatus)
	return part.Value, part.Values
}

func (p *typedProbe) part(inStatus bool) *typedPart {
	if inStatus {
		return &p.Status
	}
	return &p.Spec
}

// untypedProbe is a Probe with fields of any name.
type untypedProbe struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              map[string]any `json:"spec"`
	Status            map[string]any `json:"status,omitempty"`
}

func (*untypedProbe) Resource() metav1.Resource { return (*Probe)(nil).Resource() }

func (p *untypedProbe) set(inStatus bool, value string) {
	part := p.part(inStatus)
	if *part == nil {
		*part = map[string]any{}
	}
	(*part)["value"], (*part)["values"] = value, untypedValues()
}

func (p *untypedProbe) clear(inStatus bool) { *p.part(inStatus) = map[string]any{} }

func (p *untypedProbe) holds(inStatus bool) (string, any) {
	part := *p.part(inStatus)
	value, _ := part["value"].(string)
	return value, part["values"]
}

func (p *untypedProbe) part(inStatus bool) *map[string]any {
	if inStatus {
		return &p.Status
	}
	return &p.Spec
}

// valued is a Probe with values in its spec or its status.
type valued interface {
	client.Object
	// set writes the values, and a value that identifies the call.
	set(inStatus bool, value string)
	clear(inStatus bool)
	holds(inStatus bool) (value string, values any)
}

// difference names the first field that differs between got and want. It is empty if they are equal.
// It compares JSON, which reveals an integer that became a float64.
func difference(got, want any) (string, error) {
	was, err := fields(got)
	if err != nil {
		return "", err
	}
	should, err := fields(want)
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(should)) {
		if string(was[name]) != string(should[name]) {
			return fmt.Sprintf("%s is %q, not %q", name, was[name], should[name]), nil
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if _, known := should[name]; !known {
			return fmt.Sprintf("%s is %q, not missing", name, was[name]), nil
		}
	}
	return "", nil
}

func fields(of any) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(of)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	err = json.Unmarshal(text, &fields)
	return fields, err
}
