#!/bin/sh
# Makes .venv-bench from bench/requirements.lock (hashed): the peers, the plots and the profiler. Needs .venv.
set -eu
cd "$(dirname "$0")/.."

.venv-bench/bin/python -c '' 2>/dev/null || .venv/bin/uv venv --quiet --clear --python .venv/bin/python .venv-bench

# uv does not read pip's configuration; a mirror that is set there is meant for us too.
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    mirror=${PIP_INDEX_URL:-$(.venv/bin/pip config get global.index-url 2>/dev/null || true)}
    [ -z "$mirror" ] || export UV_DEFAULT_INDEX="$mirror"
fi
# A company's own authority is in the system's list and not in uv's.
[ ! -e /etc/ssl/certs ] || export UV_SYSTEM_CERTS=1

echo "installing what bench/requirements.lock pins"
UV_PYTHON="$PWD/.venv-bench/bin/python" .venv/bin/uv pip sync --quiet --require-hashes bench/requirements.lock
