// Not part of the SDK's module: `wasmop build` adds these files to the standard library.
module github.com/wasmop/wasmop/guest-go/port

go 1.26.0
