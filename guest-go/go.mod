module github.com/wasmop/wasmop/guest-go

go 1.26
