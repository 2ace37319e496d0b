// Package external lets net/http's client reach external hosts. The package must list them under external-hosts in
// wasmop.toml, and the owner must grant them.
//
//	client := &http.Client{Transport: external.Transport{}}
//
// It requires mainline Go. TinyGo has no net/http on wasm; use Do of [client.Client] there. The host does not follow
// redirects. http.Client does, and each redirect is a request that the owner must grant like any other. Set
// CheckRedirect to disable redirects.
//
// [client.Client]: https://pkg.go.dev/github.com/wasmop/wasmop/guest-go/client#Client
package external
