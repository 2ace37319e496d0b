// Package predicate contains the predicates that the host can evaluate. Its path and its names are those of
// controller-runtime's package predicate. The types are aliases of those in package wasmop.
package predicate

import "github.com/wasmop/wasmop/guest-go"

// Predicate determines which changes cause reconciles.
type Predicate = wasmop.Predicate

// GenerationChangedPredicate ignores updates that leave metadata.generation unchanged.
type GenerationChangedPredicate = wasmop.GenerationChangedPredicate

// LabelSelectorPredicate restricts the watch to objects that match a label selector in kubectl's syntax.
type LabelSelectorPredicate = wasmop.LabelSelectorPredicate

// FieldSelectorPredicate restricts the watch to objects that match a field selector in kubectl's syntax.
type FieldSelectorPredicate = wasmop.FieldSelectorPredicate

// CELPredicate ignores changes for which a CEL expression over object and oldObject is false.
type CELPredicate = wasmop.CELPredicate
