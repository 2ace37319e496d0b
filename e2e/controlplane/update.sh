#!/bin/sh
# Moves the control plane to another Kubernetes version: ./update.sh v1.37.2
#
# k8s.io/kubernetes requires its staging modules as v0.0.0 and replaces them with directories of
# its own repository. Replace directives of a dependency don't count, so go.mod here repeats them,
# with the versions under which the staging modules are published.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 v1.MINOR.PATCH" >&2; exit 2; }
cd "$(dirname "$0")"
kubernetes=$1
staging=v0.${kubernetes#v1.}
upstream=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
go=$(sed -n 's/^go //p' "$upstream")
{
  printf 'module wasmop.dev/e2e/controlplane\n\ngo %s\n\n' "$go"
  printf 'godebug default=go%s\n\n' "${go%.*}"
  printf 'require k8s.io/kubernetes %s\n\nreplace (\n' "$kubernetes"
  sed -n 's,^[[:space:]]*\(k8s.io/[a-z0-9-]*\) => ./staging/.*,\1,p' "$upstream" | while read -r module; do
    printf '\t%s => %s %s\n' "$module" "$module" "$staging"
  done
  printf ')\n'
} > go.mod
rm -f go.sum
GOFLAGS=-mod=mod go mod tidy
