#!/bin/sh
# Makes .venv from requirements.lock (hashed) and links the workspace's members into it.
# Needs only a Python 3.11 or newer with venv; everything else comes from the lock file.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

fail() {
    echo "sluice: $*" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "there is no $python on the PATH; install Python 3.11 or newer, or name one with PYTHON=…"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: Python 3.11 or newer is needed; name one with PYTHON=…"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$("$python" --version) cannot make virtual environments; install the package python3-venv"

# An incomplete environment, or one whose Python is gone, is recreated.
.venv/bin/python -c 'import pip' 2>/dev/null || "$python" -m venv --clear .venv

uv_pin=$(awk '/^uv==/ { found = 1 } found { print } found && !/\\$/ { exit }' requirements.lock)
if [ "uv $(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$(echo "$uv_pin" | sed -n '1s/^uv==\([^ ]*\).*/uv \1/p')" ]; then
    echo "installing uv"
    echo "$uv_pin" | .venv/bin/pip install --quiet --disable-pip-version-check \
        --require-hashes --no-deps -r /dev/stdin || fail "uv could not be installed: see the line above"
fi

# uv does not read pip's configuration; a mirror that is set there is meant for us too.
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    mirror=${PIP_INDEX_URL:-$(.venv/bin/pip config get global.index-url 2>/dev/null || true)}
    [ -z "$mirror" ] || export UV_DEFAULT_INDEX="$mirror"
fi
# A company's own authority is in the system's list and not in uv's.
[ ! -e /etc/ssl/certs ] || export UV_SYSTEM_CERTS=1
export UV_PYTHON="$PWD/.venv/bin/python"
members=$(for project in libs/*/pyproject.toml services/*/pyproject.toml tools/*/pyproject.toml; do echo "-e ./${project%/pyproject.toml}"; done)

echo "installing what requirements.lock pins"
.venv/bin/uv pip sync --quiet --require-hashes requirements.lock ||
    fail "the packages of requirements.lock could not be installed: see the lines above"
# shellcheck disable=SC2086  # a list of arguments, made above
.venv/bin/uv pip install --quiet --offline --no-deps $members ||
    fail "the workspace's own packages could not be linked into .venv"
