#!/bin/bash
# Runs fuzz targets of the tree for a fixed time each, two at a time.
#   test/fuzz.sh [TIME [SHARE]]   TIME as in -fuzztime: 10s, 1h, 5000x; default 10s
# SHARE 4 takes a quarter of the targets, another one each time: which is decided by
# HEALTHPOST_TEST_SEED or, without it, by a seed that is printed. 1, the default,
# takes all of them. Every target starts from its package's testdata/fuzz and from
# what this machine found before (GOCACHE). A failing input stays in testdata/fuzz,
# where plain `go test` runs it from then on. Prints one line a target.
set -euo pipefail
cd "$(dirname "$0")/.."
export FUZZ_TIME=${1:-10s}
share=${2:-1}
export GO=${GO:-go}
seed=${HEALTHPOST_TEST_SEED:-$RANDOM$RANDOM}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FUZZ_WORK=$work FUZZ_CACHE
FUZZ_CACHE=$("$GO" env GOCACHE)/fuzz
FUZZ_MODULE=$("$GO" list -m)
export FUZZ_MODULE

fuzz_one() { # "DIR TARGET"
  local dir=${1% *} target=${1#* } name log line rc try
  name=$(tr / _ <<<"$dir") log=$FUZZ_WORK/$(tr / _ <<<"$dir")_$target.log
  for try in 1 2 3; do
    rc=0
    (cd "$dir" && "$FUZZ_WORK/$name.test" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="$FUZZ_TIME" \
      -test.fuzzminimizetime=1s -test.parallel=1 -test.fuzzcachedir="$FUZZ_CACHE/$FUZZ_MODULE/$dir") >"$log" 2>&1 </dev/null || rc=$?
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

all=$(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . |
  sed -E 's|^\./(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*)\($|\1 \2|' | sort -u || true)
if [ -z "$all" ]; then
  echo "fuzz: no targets found" >&2
  exit 1
fi
# The share is drawn by the sums of seed and name, so one seed means one share
# whatever else is in the tree.
targets=$(while read -r line; do
  sum=$(cksum <<<"$seed $line")
  if (( ${sum%% *} % share == 0 )); then echo "$line"; fi
done <<<"$all")
if [ -z "$targets" ]; then
  echo "fuzz: none of the targets is drawn by HEALTHPOST_TEST_SEED=$seed"
  exit 0
fi
echo "fuzz: $(wc -l <<<"$targets") of $(wc -l <<<"$all") targets for $FUZZ_TIME each, HEALTHPOST_TEST_SEED=$seed"
# One instrumented binary for each package, which all of its targets use.
for dir in $(cut -d' ' -f1 <<<"$targets" | sort -u); do
  "$GO" test -c -fuzz=Fuzz -o "$work/$(tr / _ <<<"$dir").test" "./$dir"
done
printf '%s\n' "$targets" | xargs -d '\n' -P 2 -I '{}' bash -c 'fuzz_one "$1"' _ '{}'
