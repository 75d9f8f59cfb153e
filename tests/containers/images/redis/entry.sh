#!/bin/sh
# What docker-compose.yml uses of the official entry point: the owner of the volume, and a server that others may reach.
set -eu
[ "$1" = redis-server ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    chown redis /data
    exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
fi
exec "$@" --protected-mode no
