#!/bin/sh
# The checks that `make check` and `make test` leave out, each with a time limit: the chart's, and the dashboard's in a
# browser. `make chart` skips a checker that cannot be had, and names it. The exit code is 1 when a check failed.
#   LIMIT=900 sh deploy/ci-extra.sh [chart] [test-dashboard]     default: both
set -u
cd "$(dirname "$0")/.."
limit=${LIMIT:-900} # seconds for each
failed=0
[ $# -gt 0 ] || set -- chart test-dashboard

for check in "$@"; do
    case $check in
    chart | test-dashboard) ;;
    *)
        echo "$check: is no check; there are chart and test-dashboard" >&2
        exit 2
        ;;
    esac
    timeout --signal=TERM --kill-after=30 "$limit" make --no-print-directory "$check"
    code=$?
    case $code in
    0) echo "$check: passed" ;;
    124 | 137) echo "$check: not finished within $limit s" >&2 ;;
    *) echo "$check: failed" >&2 ;;
    esac
    [ "$code" -eq 0 ] || failed=1
done
exit "$failed"
