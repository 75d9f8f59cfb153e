#!/bin/sh
# Resolves what only the benchmark needs into bench/requirements.lock, at the versions of requirements.lock
# where both have a package. Names no host, whichever index was asked.
set -eu
cd "$(dirname "$0")/.."

.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-emit-index-url --no-emit-find-links --upgrade \
    -c requirements.lock bench/requirements.in -o bench/requirements.lock
