// Package cache restricts the namespaces that a manager's controllers watch. Its API follows controller-runtime. The
// cache itself is in the host.
package cache
