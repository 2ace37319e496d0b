package metav1

import (
	"errors"
	"time"
)

// Time is a time with whole seconds in JSON, as most of Kubernetes' timestamps are.
type Time struct{ time.Time }

// Now returns the current time. It does not advance during a step.
func Now() Time { return Time{time.Now()} }

// NewTime wraps t.
func NewTime(t time.Time) Time { return Time{t} }

// IsZero reports whether the time is nil or unset.
func (t *Time) IsZero() bool { return t == nil || t.Time.IsZero() }

// MarshalJSON writes RFC 3339 in UTC, or null if unset.
func (t Time) MarshalJSON() ([]byte, error) { return marshalTime(t.Time, time.RFC3339) }

// UnmarshalJSON reads RFC 3339 or null.
func (t *Time) UnmarshalJSON(b []byte) (err error) {
	t.Time, err = unmarshalTime(b)
	return err
}

// MicroTime is a time with microseconds in JSON, used by Events and Leases.
type MicroTime struct{ time.Time }

// NowMicro returns the current time. It does not advance during a step.
func NowMicro() MicroTime { return MicroTime{time.Now()} }

// IsZero reports whether the time is nil or unset.
func (t *MicroTime) IsZero() bool { return t == nil || t.Time.IsZero() }

// MarshalJSON writes RFC 3339 with microseconds in UTC, or null if unset.
func (t MicroTime) MarshalJSON() ([]byte, error) {
	return marshalTime(t.Time, "2006-01-02T15:04:05.000000Z07:00")
}

// UnmarshalJSON reads RFC 3339 or null.
func (t *MicroTime) UnmarshalJSON(b []byte) (err error) {
	t.Time, err = unmarshalTime(b)
	return err
}

func marshalTime(t time.Time, layout string) ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	b := append(make([]byte, 0, len(layout)+4), '"')
	return append(t.UTC().AppendFormat(b, layout), '"'), nil
}

func unmarshalTime(b []byte) (time.Time, error) {
	s := string(b)
	if s == "null" || s == `""` {
		return time.Time{}, nil
	}
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return time.Time{}, errors.New("a time must be a JSON string, found " + s)
	}
	return time.Parse(time.RFC3339Nano, s[1:len(s)-1])
}
