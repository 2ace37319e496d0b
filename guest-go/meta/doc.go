// Package meta reads and updates status conditions, like k8s.io/apimachinery/pkg/api/meta.
package meta
