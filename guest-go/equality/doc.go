// Package equality compares objects semantically, like k8s.io/apimachinery/pkg/api/equality.
package equality
