//go:build wasip1

package wasmop

import "log/slog"

// In the sandbox the default logger of log/slog, and through it of log, writes to the host's log,
// attributes as JSON fields. Natively the defaults stay as they are.
func init() { slog.SetDefault(slog.New(NewLogHandler(slog.LevelDebug))) }
