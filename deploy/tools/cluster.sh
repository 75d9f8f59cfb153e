#!/bin/sh
# Installs what `make kube-install` needs, and prints its folder: helm, etcd and kube-apiserver in bin/, and in definitions/
# the CustomResourceDefinitions of KEDA and of the Prometheus Operator, generated from the Go types of both.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${SLUICE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}/tools/cluster
mkdir -p "$folder/bin"

for name in helm etcd kube-apiserver; do
    program=$(sh "$here/install.sh" "$name")
    ln -sf "$program" "$folder/bin/$name"
done

generator=$(sh "$here/install.sh" operators)
definitions=$folder/$(basename "$generator")
if [ ! -d "$definitions" ]; then
    types=$(sed -n 's/^\t_ "\(.*\)"$/\1/p' "$here/operators/types.go" | paste -sd ';')
    rm -rf "$definitions.new"
    (cd "$here/operators" && "$generator" crd "paths=$types" "output:crd:dir=$definitions.new") >&2
    mv "$definitions.new" "$definitions"
fi
ln -sfn "$definitions" "$folder/definitions"
echo "$folder"
