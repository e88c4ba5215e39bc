#!/bin/bash
# Installs the Debian packages that the tests start as programs, where they are
# missing. Does nothing, and needs no network, once they are all there.
set -euo pipefail

# program:package. Each program is looked for on PATH and in the sbin folders,
# which a plain user's PATH leaves out.
needed=(
  chromium:chromium                        # browser tests of the pages
  qemu-aarch64-static:qemu-user-static     # the arm64 rig
  fusermount3:fuse3                        # disks that forget unsynced writes
  strace:strace                            # failing and counted system calls
  ip:iproute2                              # network namespaces
  nft:nftables                             # lost and reset packets
  mkfs.ext4:e2fsprogs                      # small disks that fill up
  swtpm:swtpm                              # a TPM that is a program
)

PATH=$PATH:/usr/sbin:/sbin
missing=()
for pair in "${needed[@]}"; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair#*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "setup: installing ${missing[*]}"
if ! command -v apt-get >/dev/null 2>&1; then
  echo "setup: no apt-get here; install by hand: ${missing[*]}" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "setup: run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo -n)
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update -q &&
       "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
         apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
  tail -40 "$log" >&2
  exit 1
fi
