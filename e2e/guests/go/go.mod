module github.com/wasmop/wasmop/e2e/guests/go

go 1.26

require github.com/wasmop/wasmop/guest-go v0.1.0

replace github.com/wasmop/wasmop/guest-go => ../../../guest-go
