// Package apierrors tells the API server's refusals apart.
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

// StatusError is a request the API server (or, for permissions, the host) has refused.
type StatusError struct{ ErrStatus metav1.Status }

func (e *StatusError) Error() string { return e.ErrStatus.Message }

// FromResponse turns an answer with an error status into a StatusError.
func FromResponse(code int, body []byte, request string) error {
	var s metav1.Status
	// A proxy in between may answer with something else than a Status.
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

// Code is the HTTP status of a refusal, 0 for any other error.
func Code(err error) int {
	if s, ok := errors.AsType[*StatusError](err); ok {
		return s.ErrStatus.Code
	}
	return 0
}

// ReasonForError is the API server's machine-readable reason, empty for any other error.
func ReasonForError(err error) string {
	if s, ok := errors.AsType[*StatusError](err); ok {
		return s.ErrStatus.Reason
	}
	return ""
}

// IsNotFound says that the object, or its kind, does not exist.
func IsNotFound(err error) bool { return Code(err) == statusNotFound }

// IsAlreadyExists says that an object with this name exists.
func IsAlreadyExists(err error) bool { return ReasonForError(err) == "AlreadyExists" }

// IsConflict says that the object has changed since it was read, or that another field manager
// owns a field that was applied.
func IsConflict(err error) bool { return ReasonForError(err) == "Conflict" }

// IsInvalid says that the object violates its schema or validation.
func IsInvalid(err error) bool { return ReasonForError(err) == "Invalid" }

// IsForbidden says that the request is not permitted, by RBAC or by the package's permissions.
func IsForbidden(err error) bool { return Code(err) == statusForbidden }

// IsUnauthorized says that the host's credentials were not accepted.
func IsUnauthorized(err error) bool { return Code(err) == statusUnauthorized }

// IsTooManyRequests says that the API server asked for patience.
func IsTooManyRequests(err error) bool { return Code(err) == statusTooManyRequests }

// IsGone says that a list's continue token or resource version is too old.
func IsGone(err error) bool { return Code(err) == statusGone }

// IsTimeout says that the API server gave up on the request in time.
func IsTimeout(err error) bool {
	r := ReasonForError(err)
	return r == "Timeout" || r == "ServerTimeout"
}
