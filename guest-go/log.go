package wasmop

import (
	"context"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/internal/abi"
)

type loggerKey struct{}

func withLogger(ctx context.Context, l *slog.Logger) context.Context {
	return context.WithValue(ctx, loggerKey{}, l)
}

// LoggerFrom returns the logger of the reconcile that ctx belongs to. Its lines contain the controller and the object.
func LoggerFrom(ctx context.Context) *slog.Logger {
	if l, ok := ctx.Value(loggerKey{}).(*slog.Logger); ok {
		return l
	}
	return slog.Default()
}

// NewLogHandler returns a handler that writes to the host's log.
func NewLogHandler(level slog.Leveler) slog.Handler { return &logHandler{level: level} }

// logHandler keeps the attributes of With as an unfinished JSON object. fields is the content so far, and open counts
// the groups to close.
type logHandler struct {
	level  slog.Leveler
	fields []byte
	open   int
	// groups are the names of WithGroup since then. A group without attributes is omitted.
	groups []string
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	next := *h
	next.fields = append([]byte(nil), h.fields...)
	next.openGroups()
	for _, a := range attrs {
		next.fields = appendAttr(next.fields, a)
	}
	return &next
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.groups = append(append([]string(nil), h.groups...), name)
	return &next
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	line := *h
	line.fields = append([]byte(nil), h.fields...)
	if r.NumAttrs() > 0 {
		line.openGroups()
	}
	r.Attrs(func(a slog.Attr) bool {
		line.fields = appendAttr(line.fields, a)
		return true
	})
	for range line.open {
		line.fields = append(line.fields, '}')
	}
	abi.Log(hostLevel(r.Level), "slog", r.Message, line.fields)
	return nil
}

func (h *logHandler) openGroups() {
	for _, g := range h.groups {
		h.fields = append(appendKey(h.fields, g), '{')
		h.open++
	}
	h.groups = nil
}

func hostLevel(l slog.Level) abi.Level {
	switch {
	case l >= slog.LevelError:
		return abi.Error
	case l >= slog.LevelWarn:
		return abi.Warn
	case l >= slog.LevelInfo:
		return abi.Info
	case l >= slog.LevelDebug:
		return abi.Debug
	}
	return abi.Trace
}

func appendKey(b []byte, key string) []byte {
	if n := len(b); n > 0 && b[n-1] != '{' {
		b = append(b, ',')
	}
	return append(abi.AppendString(b, key), ':')
}

func appendAttr(b []byte, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		attrs := v.Group()
		if len(attrs) == 0 {
			return b
		}
		if a.Key != "" { // a group without a name is inlined
			b = append(appendKey(b, a.Key), '{')
		}
		for _, inner := range attrs {
			b = appendAttr(b, inner)
		}
		if a.Key != "" {
			b = append(b, '}')
		}
		return b
	}
	if a.Equal(slog.Attr{}) {
		return b
	}
	return appendValue(appendKey(b, a.Key), v)
}

// appendValue never passes a value of unknown type to encoding/json, which panics internally for types and numbers that
// it cannot represent. TinyGo cannot recover from this panic.
func appendValue(b []byte, v slog.Value) []byte {
	switch v.Kind() {
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindFloat64:
		if f := v.Float64(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return strconv.AppendFloat(b, f, 'g', -1, 64)
		}
	case slog.KindTime:
		return abi.AppendString(b, v.Time().Format(time.RFC3339Nano))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case nil:
			return append(b, "null"...)
		case error:
			return abi.AppendString(b, x.Error())
		case client.Object:
			return abi.AppendString(b, client.ObjectKeyFromObject(x).String())
		}
	}
	return abi.AppendString(b, v.String())
}
