#!/bin/bash
# Makes the fixture of a release: builds the program of a commit, drives it as people
# would (make_test.go) and keeps the folders. To be run at each release, once.
#
#   test/upgrade/make-fixture.sh NAME [COMMIT]      NAME as 4-reliability
set -euo pipefail
name=${1:?name of the archive} commit=${2:-HEAD}
here=$(cd "$(dirname "$0")" && pwd)
to=$here/testdata/$name.tar.zst
[ ! -e "$to" ] || { echo "$to is there: what a release wrote is never made again" >&2; exit 1; }
tree=$(mktemp -d)
trap 'git -C "$here" worktree remove --force "$tree"; rm -rf "$tree"' EXIT
git -C "$here" worktree add -q --detach "$tree" "$commit"
(cd "$tree" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -o "$tree/healthpost" ./cmd/healthpost)
(cd "$here" && go test -count=1 -run "^TestReleases\$/^$name\$" . -args -make "$tree/healthpost" -to "$to")
ls -l "$to"
