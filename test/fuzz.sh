#!/bin/bash
# Runs every fuzz target of the tree for a fixed time, two at a time.
#   test/fuzz.sh [TIME]        TIME as in -fuzztime: 10s, 1m, 5000x; default 10s
# A failing input stays in the package's testdata/fuzz, where plain `go test`
# runs it from then on. Prints one line a target.
set -euo pipefail
cd "$(dirname "$0")/.."
export FUZZ_TIME=${1:-10s}
export GO=${GO:-go}

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export FUZZ_LOGS=$logs

fuzz_one() { # "DIR TARGET"
  local dir=${1% *} target=${1#* } log line rc try
  log=$FUZZ_LOGS/$(tr / _ <<<"$dir")_$target
  for try in 1 2 3; do
    rc=0
    "$GO" test -run='^$' -fuzz="^$target\$" -fuzztime="$FUZZ_TIME" \
      -fuzzminimizetime=1s -parallel=1 "./$dir" >"$log" 2>&1 </dev/null || rc=$?
    # The engine can report its own time limit as a failure when it runs out in
    # the middle of an input (golang.org/issue/75804): no input is at fault then.
    if [ $rc -ne 0 ] && grep -q 'context deadline exceeded' "$log" &&
       ! grep -q 'Failing input written' "$log"; then
      continue
    fi
    break
  done
  if [ $rc -ne 0 ]; then
    echo "fuzz: FAIL $dir $target"
    cat "$log"
    return 1
  fi
  line=$(grep -E '^fuzz: elapsed' "$log" | tail -1 || true)
  echo "fuzz: ok $dir $target ${line#fuzz: }"
}
export -f fuzz_one

targets=$(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . |
  sed -E 's|^\./(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*)\($|\1 \2|' | sort -u || true)
if [ -z "$targets" ]; then
  echo "fuzz: no targets found" >&2
  exit 1
fi
printf '%s\n' "$targets" | xargs -d '\n' -P 2 -I '{}' bash -c 'fuzz_one "$1"' _ '{}'
