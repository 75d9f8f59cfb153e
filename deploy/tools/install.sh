#!/bin/sh
# Prints the path of a program that checks or runs the deployment; builds it once, from the module that go.sum pins.
#   sh deploy/tools/install.sh compose | etcd | helm | kube-apiserver | kubeconform | kube-score | operators
# Go fetches the sources through the module proxy that `go env GOPROXY` names.
set -eu
name=${1:?name a tool: a folder of deploy/tools}
module=$(cd "$(dirname "$0")" && pwd)/$name
[ -e "$module/go.mod" ] || { echo "there is no tool $name" >&2; exit 2; }
cache=${SLUICE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}/tools
pin=$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c1-12)
program=$cache/$name-$pin
if [ ! -x "$program" ]; then
    command -v go >/dev/null || { echo "$name is built with Go, which is not installed: install Go 1.26 or newer" >&2; exit 2; }
    mkdir -p "$cache"
    package=$(sed -n 's/^tool //p' "$module/go.mod")
    echo "building $name; this takes minutes, once" >&2
    # Kubernetes has its version from the command line; helm refuses a server that has none.
    version=$(cd "$module" && go list -mod=readonly -f '{{.Module.Version}}' "$package")
    (cd "$module" && CGO_ENABLED=0 go build -mod=readonly -trimpath \
        -ldflags "-X k8s.io/component-base/version.gitVersion=$version" -o "$program.$$" "$package") >&2
    mv "$program.$$" "$program"
fi
echo "$program"
