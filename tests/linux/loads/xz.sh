#!/bin/sh
# xz: round trips at several levels, a file that another machine compressed, and one that another
# machine is to decompress.
set -e
xz() { /usr/bin/xz "$@"; } # Busybox prefers its own.
sample=/loads/data/sample
for level in -0 -6 -7e; do
  xz -T1 -k -c $level $sample >sample.xz
  xz -t sample.xz
  echo "level $level $(xz -dc sample.xz | sha256sum)"
done
xz -F lzma -c $sample | xz -dc -F lzma | cmp - $sample
for filter in --x86 --delta=dist=4; do
  xz -c $filter --lzma2=preset=3 --check=sha256 $sample | xz -dc | cmp - $sample
done
echo "from the host $(xz -dc /loads/data/sample.xz | sha256sum)"
printf x | dd of=sample.xz bs=1 seek=2000 conv=notrunc 2>/dev/null
if xz -t sample.xz 2>/dev/null; then echo 'a damaged file passed'; fi
echo 'for the host'
head -c 20000 $sample | xz -c | base64
echo 'that was all'
