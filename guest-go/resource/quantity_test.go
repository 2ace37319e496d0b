package resource_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/wasmop/wasmop/guest-go/resource"
)

// The canonical forms are those of k8s.io/apimachinery/pkg/api/resource.
func TestAQuantityHasOneCanonicalForm(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "-0": "0", "0.000": "0", "0Mi": "0", "1": "1", "+1": "1", "-1": "-1", "1000m": "1", "1500m": "1500m", "1.5": "1500m", ".5": "500m", "5.": "5",
		"1000": "1k", "1024": "1024", "100000k": "100M", "1e3": "1e3", "1E3": "1e3", "1.5e3": "1500", "12e6": "12e6", "1000000u": "1", "1000000000n": "1",
		"1E": "1E", "5E": "5E", "0.1n": "1n", "1.0000000001": "1000000001n", "-0.1n": "-1n",
		"1Ki": "1Ki", "1024Ki": "1Mi", "1024Mi": "1Gi", "1.5Gi": "1536Mi", "0.5Ki": "512", "1.1Ki": "1126400m", "1Ei": "1Ei", "2048Ti": "2Pi", "74000P": "74E", "100Ei": "9223372036854775807",
		"1e-100": "1e-9", "12345678901234567890": "12345678901234567890",
	} {
		got, err := resource.ParseQuantity(text)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
		again, err := resource.ParseQuantity(string(got))
		if err != nil || again != got {
			t.Errorf("%s: %s is not canonical but %s, %v", text, got, again, err)
		}
	}
}

func TestInvalidQuantitiesAreRefused(t *testing.T) {
	for _, text := range []string{"", " ", "m", ".", "--1", "1.2.3", "1 ", "1mm", "1i", "1iM", "1KiB", "1e", "1ee3", "1e99999999999", "Inf", "NaN", "1e1.5", "0x10", "१"} {
		if got, err := resource.ParseQuantity(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
	if _, err := resource.ParseQuantity(strings.Repeat("9", 1<<20) + "." + strings.Repeat("1", 1<<20)); err != nil {
		t.Error(err)
	}
}

func TestQuantitiesAreEqualByValue(t *testing.T) {
	for _, same := range [][2]resource.Quantity{{"1000m", "1"}, {"1Gi", "1024Mi"}, {"1Gi", "1073741824"}, {"1k", "1e3"}, {"0", "0Ki"}, {"odd", "odd"}} {
		if !same[0].Equal(same[1]) || !same[1].Equal(same[0]) {
			t.Error(same, "are not equal")
		}
	}
	for _, differ := range [][2]resource.Quantity{{"1", "1001m"}, {"-1", "1"}, {"odd", "0"}, {"", "0"}} {
		if differ[0].Equal(differ[1]) || differ[1].Equal(differ[0]) {
			t.Error(differ, "are equal")
		}
	}
	if resource.Quantity("500m").Cmp("1") != -1 || resource.Quantity("1Ki").Cmp("1k") != 1 || resource.Quantity("-2").Cmp("-1") != -1 {
		t.Error("the order is wrong")
	}
}

func TestQuantitiesConvertToIntegers(t *testing.T) {
	for q, want := range map[resource.Quantity][2]int64{
		"1500m": {2, 1500}, "-1500m": {-2, -1500}, "1u": {1, 1}, "2Ki": {2048, 2048000}, "odd": {0, 0},
		"9223372036854775807": {math.MaxInt64, math.MaxInt64}, "-9223372036854775807": {-math.MaxInt64, math.MinInt64},
	} {
		if q.Value() != want[0] || q.MilliValue() != want[1] {
			t.Error(q, q.Value(), q.MilliValue())
		}
	}
	if resource.NewQuantity(2000) != "2k" || resource.NewMilliQuantity(1500) != "1500m" || !resource.Quantity("0m").IsZero() {
		t.Error("constructors")
	}
}

func TestJSONHasTheCanonicalForm(t *testing.T) {
	type limits struct {
		CPU, Memory, Empty, Odd resource.Quantity
		Omitted                 resource.Quantity `json:",omitempty"`
	}
	b, err := json.Marshal(limits{CPU: "1000m", Memory: "1.5Gi", Odd: "a lot"})
	if want := `{"CPU":"1","Memory":"1536Mi","Empty":"","Odd":"a lot"}`; err != nil || string(b) != want {
		t.Errorf("got  %s, %v\nwant %s", b, err, want)
	}
	var got limits
	if err := json.Unmarshal([]byte(`{"CPU":2,"Memory":"1Gi","Empty":null,"Odd":1.5}`), &got); err != nil || got != (limits{CPU: "2", Memory: "1Gi", Odd: "1.5"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"CPU":true}`), &got); err == nil {
		t.Error("true was read as a quantity")
	}
}
