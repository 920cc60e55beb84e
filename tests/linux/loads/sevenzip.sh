#!/bin/sh
# 7-Zip: hashes, archives that are made, tested and taken apart again, and its benchmark, which compares
# the checksums of everything that it compresses and hashes.
set -e
sample=/loads/data/sample
for hash in CRC32 CRC64 SHA1 SHA256; do
  7zz h -bd "-scrc$hash" $sample | grep "^$hash *for data"
done
for kind in 7z zip xz; do
  7zz a -bd -bso0 -mx=5 -mmt=1 sample.$kind $sample
  7zz t -bd sample.$kind | grep 'Everything is Ok'
  echo "$kind $(7zz x -so sample.$kind | sha256sum)"
done
7zz l -slt sample.7z | grep '^CRC'
printf x | dd of=sample.7z bs=1 seek=1000 conv=notrunc 2>/dev/null
if 7zz t -bd -bso0 sample.7z 2>/dev/null; then echo 'a damaged archive passed'; fi
7zz b 1 -mmt1 -md16 -mtime=1
7zz b 1 -mm=BZip2 -mmt1 -md16 -mtime=1
echo 'benchmarks passed'
