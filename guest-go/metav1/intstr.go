package metav1

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// IntOrString is a number or a name, such as a port.
type IntOrString struct {
	// IsString says whether the value is the name.
	IsString bool
	Int      int32
	String   string
}

// FromInt returns a number.
func FromInt(n int32) IntOrString { return IntOrString{Int: n} }

// FromString returns a name.
func FromString(s string) IntOrString { return IntOrString{IsString: true, String: s} }

// MarshalJSON writes a JSON number or string.
func (v IntOrString) MarshalJSON() ([]byte, error) {
	if v.IsString {
		return json.Marshal(v.String)
	}
	return strconv.AppendInt(nil, int64(v.Int), 10), nil
}

// UnmarshalJSON reads a JSON number or string.
func (v *IntOrString) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*v = IntOrString{IsString: true}
		return json.Unmarshal(b, &v.String)
	}
	n, err := strconv.ParseInt(string(b), 10, 32)
	if err != nil {
		return fmt.Errorf("neither a number nor a string: %s", b)
	}
	*v = FromInt(int32(n))
	return nil
}
