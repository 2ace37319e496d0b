package cache_test

import (
	"github.com/wasmop/wasmop/guest-go"
	"github.com/wasmop/wasmop/guest-go/cache"
	"github.com/wasmop/wasmop/guest-go/client"
	"github.com/wasmop/wasmop/guest-go/corev1"
)

// Watches everything in the namespace web, but Secrets in the namespace system.
func ExampleOptions() {
	_ = wasmop.NewManager(wasmop.Options{Cache: cache.Options{
		DefaultNamespaces: map[string]cache.Config{"web": {}},
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{"system": {}}},
		},
	}})
}
