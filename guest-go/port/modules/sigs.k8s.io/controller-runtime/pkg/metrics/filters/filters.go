//go:build wasip1

// Package filters denies all requests for metrics. Nobody can connect to a controller in wasmop, and the host serves
// the metrics of its controllers.
package filters

import (
	"net/http"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// WithAuthenticationAndAuthorization returns a filter that denies all requests.
func WithAuthenticationAndAuthorization(*rest.Config, *http.Client) (metricsserver.Filter, error) {
	return func(logr.Logger, http.Handler) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "wasmop: the host serves the metrics of its controllers", http.StatusForbidden)
		}), nil
	}, nil
}
