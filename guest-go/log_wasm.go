//go:build wasip1

package wasmop

import (
	"log/slog"
	"math"

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

// slogLevel returns the level for a name in the host's configuration.
func slogLevel(name string) slog.Level {
	switch name {
	case "off":
		return slog.Level(math.MaxInt)
	case "error":
		return slog.LevelError
	case "warn":
		return slog.LevelWarn
	case "info":
		return slog.LevelInfo
	case "debug":
		return slog.LevelDebug
	}
	return slog.Level(math.MinInt)
}
