#!/bin/sh
# Resolves the dependencies into requirements.lock (everything) and deploy/requirements.lock (the part that the image
# of docker-compose.yml needs). Neither names a host, whichever index was asked. Pinned versions stay as they are
# unless UPGRADE is set.
set -eu
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-emit-index-url --no-emit-find-links --no-emit-package sluice-common ${UPGRADE:+--upgrade} "$@"
}

compile pyproject.toml libs/*/pyproject.toml services/*/pyproject.toml tools/*/pyproject.toml \
    --group pyproject.toml:dev -o requirements.lock
compile libs/*/pyproject.toml services/*/pyproject.toml tools/cli/pyproject.toml tools/simulator/pyproject.toml \
    -c requirements.lock -o deploy/requirements.lock
