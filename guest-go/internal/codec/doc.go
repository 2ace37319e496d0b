// Package codec decodes Kubernetes objects from JSON.
//
// It differs from encoding/json in one way: integers in values of type any stay exact. encoding/json decodes every
// number there as a float64, which changes integers above 2^53. As in apimachinery, such an integer becomes an int64,
// and any other number a float64.
package codec
