#!/bin/sh
# The checks that `make check` and `make test` leave out, each with a time limit: the chart's and the alerts', the
# dashboard's in a browser, the chart on an API server of Kubernetes, and the image and docker-compose.yml on a container
# engine. `make chart` skips a checker that cannot be had, and names it; the API server is skipped where it cannot be built,
# the containers without root. The exit code is 1 when a check failed.
#   LIMIT=900 sh deploy/ci-extra.sh [chart] [test-dashboard] [kube-install] [containers]     default: all four
set -u
cd "$(dirname "$0")/.."
limit=${LIMIT:-} # seconds for each; default: 900, and 2400 for what builds an engine's tools or an API server once
failed=0
[ $# -gt 0 ] || set -- chart test-dashboard kube-install containers

for check in "$@"; do
    case $check in
    chart | test-dashboard) seconds=${limit:-900} ;;
    kube-install) seconds=${limit:-2400} ;;
    containers)
        seconds=${limit:-2400}
        if [ "$(id -u)" -ne 0 ]; then
            echo "containers: skipped, they need root" >&2
            continue
        fi
        ;;
    *)
        echo "$check: is no check; there are chart, test-dashboard, kube-install and containers" >&2
        exit 2
        ;;
    esac
    timeout --signal=TERM --kill-after=60 "$seconds" make --no-print-directory "$check"
    code=$?
    case $code in
    0) echo "$check: passed" ;;
    124 | 137) echo "$check: not finished within $seconds s" >&2 ;;
    *) echo "$check: failed" >&2 ;;
    esac
    [ "$code" -eq 0 ] || failed=1
done
exit "$failed"
