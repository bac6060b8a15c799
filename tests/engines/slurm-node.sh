#!/usr/bin/env bash
# Start node NUMBER of the cluster in DIR. `kill -9 $(cat DIR/run/nodeNUMBER.pid)` ends it and all that it runs.
#
#   slurm-node.sh DIR NUMBER
set -euo pipefail
D=${1:?folder} number=${2:?number}
export SLURM_CONF=$D/slurm.conf
setsid ip netns exec "slurmtest$number" unshare --uts --pid --fork --kill-child --mount-proc \
  sh -c "hostname node$number; slurmd -D -N node$number & wait" >"$D/log/node$number.out" 2>&1 </dev/null &
echo $! >"$D/run/node$number.pid"
