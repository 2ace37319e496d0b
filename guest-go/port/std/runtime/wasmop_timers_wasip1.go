package runtime

// wasmopCleanTimers removes stopped timers from the heap, so that timeSleepUntil does not count them.
func wasmopCleanTimers() {
	timers := &getg().m.p.ptr().timers // there is one P
	timers.lock()
	timers.adjust(0, true)
	timers.unlock()
}
