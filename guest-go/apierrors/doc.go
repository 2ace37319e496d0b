// Package apierrors distinguishes the errors of the API server. Its API follows k8s.io/apimachinery/pkg/api/errors.
package apierrors
