#!/bin/sh
# stress-ng: stressors that verify what they compute and what the kernel does, each for a second. The
# first goes through all its methods of computing once instead, however long that takes. Without being
# told, "shm" would take more memory than the guest has, on a host that is fast enough for it.
failed() {
  echo "$1 failed with status $2"
  cat messages
}
run() {
  name=$1
  shift
  stress-ng --verify --temp-path /tmp --shm-objs 4 "--$name" 1 "$@" >messages 2>&1 || failed "$name" $?
  if grep -E 'fail|skipping|not implemented' messages; then failed "$name" 'of its messages'; fi
}
run cpu --cpu-ops 90 --timeout 60
run vm --vm-bytes 8M --timeout 3
while read -r name; do
  run "$name" --timeout 1
done </loads/data/stressors
echo 'all stressors ran'
