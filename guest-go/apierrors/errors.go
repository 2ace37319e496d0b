package apierrors

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/wasmop/wasmop/guest-go/metav1"
)

// HTTP status codes; net/http is not imported for them because it is half a program of its own.
const (
	statusUnauthorized    = 401
	statusForbidden       = 403
	statusNotFound        = 404
	statusGone            = 410
	statusTooManyRequests = 429
)

// StatusError is the error of a request that the API server has refused, or that the host has denied.
type StatusError struct{ ErrStatus metav1.Status }

func (e *StatusError) Error() string { return e.ErrStatus.Message }

// FromResponse converts a response with an error status to a StatusError.
func FromResponse(code int, body []byte, request string) error {
	var s metav1.Status
	// A proxy may respond with something other than a Status.
	if err := json.Unmarshal(body, &s); err != nil || s.Message == "" {
		s = metav1.Status{Status: "Failure", Message: fmt.Sprintf("%s: %d %s", request, code, text(body))}
	}
	if s.Code == 0 {
		s.Code = code
	}
	return &StatusError{s}
}

func text(body []byte) string {
	const enough = 256
	if len(body) > enough {
		return string(body[:enough]) + "…"
	}
	return string(body)
}

// Code returns the HTTP status of a StatusError, or 0 for other errors.
func Code(err error) int {
	if s, ok := errors.AsType[*StatusError](err); ok {
		return s.ErrStatus.Code
	}
	return 0
}

// ReasonForError returns the machine-readable reason of a StatusError, or an empty string for other errors.
func ReasonForError(err error) string {
	if s, ok := errors.AsType[*StatusError](err); ok {
		return s.ErrStatus.Reason
	}
	return ""
}

// IsNotFound reports whether the object or its kind does not exist.
func IsNotFound(err error) bool { return Code(err) == statusNotFound }

// IsAlreadyExists reports whether an object with this name exists.
func IsAlreadyExists(err error) bool { return ReasonForError(err) == "AlreadyExists" }

// IsConflict reports whether the object has changed since it was read, or another field manager owns an applied field.
func IsConflict(err error) bool { return ReasonForError(err) == "Conflict" }

// IsInvalid reports whether the object violates its schema or validation.
func IsInvalid(err error) bool { return ReasonForError(err) == "Invalid" }

// IsForbidden reports whether RBAC or the package's permissions deny the request.
func IsForbidden(err error) bool { return Code(err) == statusForbidden }

// IsUnauthorized reports whether the API server has rejected the host's credentials.
func IsUnauthorized(err error) bool { return Code(err) == statusUnauthorized }

// IsTooManyRequests reports whether the API server throttles the client.
func IsTooManyRequests(err error) bool { return Code(err) == statusTooManyRequests }

// IsGone reports whether the continue token or resource version of a list has expired.
func IsGone(err error) bool { return Code(err) == statusGone }

// IsTimeout reports whether the request timed out in the API server.
func IsTimeout(err error) bool {
	r := ReasonForError(err)
	return r == "Timeout" || r == "ServerTimeout"
}
