#!/bin/sh
# Resolves Node, and what controls the browser of the tests, into lock files beside their requirements.in. npm writes the
# package-lock.json files; what they say of funding is removed from them, because a lock file names no host.
set -eu
cd "$(dirname "$0")/.."

for directory in dashboard dashboard/browser; do
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links "$directory/requirements.in" -o "$directory/requirements.lock"
done

for lock in dashboard/package-lock.json dashboard/browser/package-lock.json tests/unit/templates/handlebars/package-lock.json; do
    .venv/bin/python - "$lock" <<'END'
import json, sys

with open(sys.argv[1], "r+", encoding="utf-8") as file:
    lock = json.load(file)
    for package in lock["packages"].values():
        package.pop("funding", None)
    file.seek(0)
    file.truncate()
    file.write(json.dumps(lock, indent=2, ensure_ascii=False) + "\n")
END
done
