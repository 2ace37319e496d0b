//go:build wasip1

package wasmop

import (
	"log/slog"

	"github.com/wasmop/wasmop/guest-go/internal/abi"
)

// In the sandbox the default logger of log/slog, and through it of log, writes to the host's log,
// attributes as JSON fields. Natively the defaults stay as they are.
//
// The level is that of the host's configuration. Without one everything is sent down to the debug
// level, and the host passes on what its own verbosity allows.
func init() {
	var level slog.LevelVar
	level.Set(slog.LevelDebug)
	abi.OnLogLevel = func(name string) { level.Set(slogLevel(name)) }
	slog.SetDefault(slog.New(NewLogHandler(&level)))
}
