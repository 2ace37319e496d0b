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

// Name returns the package's name from the host.
func Name() string {
	startMu.Lock()
	defer startMu.Unlock()
	return name
}

// dispatch handles the pending events. It starts and wakes goroutines, but runs none itself.
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

// begin handles the start event: it sets name, environment, arguments and log level, then starts main.
func begin(payload []byte) {
	var start struct {
		Name     string            `json:"name"`
		Env      map[string]string `json:"env"`
		Args     []string          `json:"args"`
		LogLevel string            `json:"logLevel"`
	}
	if err := json.Unmarshal(payload, &start); err != nil {
		Log(Error, "wasmop", "the start event is not JSON: "+err.Error(), nil)
	}
	startMu.Lock()
	name = start.Name
	startMu.Unlock()
	// The runtime copied both when the base image was created, before any controller had values of its own.
	for k, v := range start.Env {
		if err := os.Setenv(k, v); err != nil {
			Log(Error, "wasmop", "cannot set environment variable "+k+": "+err.Error(), nil)
		}
	}
	for _, k := range readEarly() {
		if start.Env[k] != "" {
			Log(Warn, "wasmop", "the environment variable "+k+" was read before main, where it is still empty: read it in main or later", nil)
		}
	}
	os.Args = append(os.Args[:1:1], start.Args...)
	if start.LogLevel != "" && OnLogLevel != nil {
		OnLogLevel(start.LogLevel)
	}
	if OnStart != nil {
		OnStart()
	}
	startMain()
}

// OnStart is called before main, when environment and arguments are set.
var OnStart func()

// OnLogLevel is called before main if the host sets a level for the controller: "off", "error", "warn", "info", "debug"
// or "trace".
var OnLogLevel func(level string)
