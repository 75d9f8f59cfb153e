#!/bin/sh
# Resolves the dependencies anew: everything into requirements.lock, and the part that the image of
# docker-compose.yml needs into deploy/requirements.lock. Neither names a host, whichever index was asked.
set -eu
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-emit-index-url --no-emit-find-links --upgrade "$@"
}

compile pyproject.toml libs/common/pyproject.toml \
    --group pyproject.toml:dev --group pyproject.toml:engine -o requirements.lock
compile libs/common/pyproject.toml -c requirements.lock -o deploy/requirements.lock
