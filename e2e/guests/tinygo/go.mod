module github.com/wasmop/wasmop/e2e/guests/tinygo

go 1.26

require github.com/wasmop/wasmop/e2e/guests/go v0.1.0

require github.com/wasmop/wasmop/guest-go v0.1.0 // indirect

replace (
	github.com/wasmop/wasmop/e2e/guests/go => ../go
	github.com/wasmop/wasmop/guest-go => ../../../guest-go
)
