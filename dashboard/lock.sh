#!/bin/sh
# Resolves Node, and what controls the browser of the tests, into lock files beside their requirements.in. The packages of
# the dashboard itself are in package-lock.json.
set -eu
cd "$(dirname "$0")/.."

for directory in dashboard dashboard/browser; do
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links "$directory/requirements.in" -o "$directory/requirements.lock"
done
