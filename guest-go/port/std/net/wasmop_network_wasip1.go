package net

import (
	"context"
	"errors"
	"fmt"
	"internal/wasmop/abi"
)

// Connections stay within the program. The port rule `network` renames the functions that these replace.

// DialContext connects to a listener of the same program.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (Conn, error) {
	conn, err := d.dialInProcess(ctx, network, address)
	if err == nil || ctx.Err() != nil {
		return conn, err
	}
	var failed *OpError
	if errors.As(err, &failed) {
		failed.Err = fmt.Errorf("%w (in wasmop, a controller reaches other hosts only by HTTP requests with net/http)", failed.Err)
	}
	return nil, err
}

// Listen makes a listener to which only the same program can connect.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (Listener, error) {
	listener, err := lc.listenInProcess(ctx, network, address)
	if err == nil {
		abi.Log(abi.Info, "wasmop", "nobody can connect to "+address+": the host serves metrics and probes for its controllers, and webhooks are not served", nil)
	}
	return listener, err
}
