//go:build wasip1

package wasmop

import (
	"log/slog"

	"github.com/wasmop/wasmop/guest-go/internal/abi"
)

// In the sandbox the default logger of log/slog writes to the host's log, with attributes as JSON fields. The default
// logger of log does so, too. Natively the defaults are unchanged.
//
// The level comes from the host's configuration. Without one, everything down to the debug level is sent, and the host
// filters it by its own verbosity.
func init() {
	var level slog.LevelVar
	level.Set(slog.LevelDebug)
	abi.OnLogLevel = func(name string) { level.Set(slogLevel(name)) }
	slog.SetDefault(slog.New(NewLogHandler(&level)))
}
