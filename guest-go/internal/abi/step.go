package abi

import (
	"encoding/json"
	"os"
	"sync"
)

var (
	startMu sync.Mutex
	name    string
)

// Name is the package's name, as the host gave it.
func Name() string {
	startMu.Lock()
	defer startMu.Unlock()
	return name
}

// dispatch takes the pending events. It starts and wakes goroutines but runs nothing itself.
func dispatch() {
	for {
		e := hostNext()
		if e.kind == kindNothing {
			return
		}
		payload := hostRead(e.len)
		switch e.kind {
		case kindStart:
			begin(payload)
		case kindReconcile, kindMap:
			startTask(e, payload)
		case kindCancel:
			cancelTask(e.id)
		default:
			deliver(e, payload)
		}
	}
}

// begin takes the start event: name and environment, then main.
func begin(payload []byte) {
	var start struct {
		Name string            `json:"name"`
		Env  map[string]string `json:"env"`
	}
	if err := json.Unmarshal(payload, &start); err != nil {
		Log(Error, "wasmop", "the start event is not JSON: "+err.Error(), nil)
	}
	startMu.Lock()
	name = start.Name
	startMu.Unlock()
	for k, v := range start.Env {
		if err := os.Setenv(k, v); err != nil {
			Log(Error, "wasmop", "cannot set environment variable "+k+": "+err.Error(), nil)
		}
	}
	startMain()
}

const mainReturned = "main returned: it must end with mgr.Start(ctx), which returns only on failure"
