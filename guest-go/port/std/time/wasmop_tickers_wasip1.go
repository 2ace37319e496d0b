package time

import (
	"internal/stringslite"
	"runtime"
)

// quietLoops are the functions whose tickers never fire: loops that only update a gauge, flush a file or log at a level
// that nobody sees. Each would resume an idle controller again and again. docs/go-operators.md lists them.
var quietLoops = [...]struct{ pkg, function string }{
	{"k8s.io/client-go/util/workqueue.", ".updateUnfinishedWorkLoop"},                             // a metric, 500 ms
	{"k8s.io/client-go/util/workqueue.", ".newDelayingQueue"},                                     // in case its timer is late, 10 s
	{"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue.", ".updateUnfinishedWorkLoop"}, // a metric, 500 ms
	{"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue.", ".logState"},                 // a log line, 10 s
	{"sigs.k8s.io/controller-runtime/pkg/certwatcher.", ".Start"},                                 // certificates of servers, 10 s
	{"k8s.io/klog/v2.", ".run"},                 // flushes log files, 5 s
	{"k8s.io/klog/v2.", ".flushDaemon"},         // the same, before 2.10
	{"k8s.io/klog.", ".flushDaemon"},            // the same
	{"github.com/golang/glog.", ".flushDaemon"}, // the same, 30 s
	{"go.uber.org/zap/zapcore.", ".flushLoop"},  // the same
	{"go.opencensus.io/stats/view.", ".start"},  // reports metrics, 10 s
}

const quietFor Duration = 1<<63 - 1

// tickEvery returns the interval of a new ticker: d, unless one of the quietLoops makes it.
func tickEvery(d Duration) Duration {
	if d <= 0 {
		return d
	}
	var callers [4]uintptr // the loop itself, and wrappers of k8s.io/utils/clock
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		for _, loop := range quietLoops {
			// The name of a generic function ends with [...].
			function := stringslite.TrimSuffix(frame.Function, "[...]")
			if stringslite.HasPrefix(function, loop.pkg) && stringslite.HasSuffix(function, loop.function) {
				return quietFor
			}
		}
	}
	return d
}
