#!/bin/bash
# The health check of the image: exit code 0 while the role in this container is ready; otherwise it prints why not.
# Without a program to start, a check costs milliseconds.
set -u
exec 3<>"/dev/tcp/127.0.0.1/${SLUICE_OPS_PORT:-$SLUICE_PORT}" || exit 1
printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 4 _ status _ <&3
[ "$status" = 200 ] && exit 0
while read -r -t 4 line <&3 || [ -n "$line" ]; do last=$line; line=; done
echo "${last:-no answer}"
exit 1
