#!/bin/sh
# Creates .env with random passwords for docker-compose.yml, readable by its owner alone; an existing file stays.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
    echo ".env exists: it is not changed" >&2
    exit 1
fi
umask 077
for name in POSTGRES_PASSWORD_SUPERUSER POSTGRES_PASSWORD_OWNER POSTGRES_PASSWORD_GATEWAY POSTGRES_PASSWORD_ROUTER \
    POSTGRES_PASSWORD_WORKER POSTGRES_PASSWORD_HEALTH POSTGRES_PASSWORD_EVENT_WORKER POSTGRES_PASSWORD_OPERATOR \
    REDIS_PASSWORD; do
    echo "SLUICE_$name=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done > .env
echo "the passwords are in .env" >&2
