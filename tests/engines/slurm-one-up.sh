#!/usr/bin/env bash
# A Slurm of one node on loopback that claims the resources of a production node.
#
#   FAKE_CPUS=64 FAKE_MEM=512000 GPU_TYPE=a100 GPUS=8 slurm-one-up.sh DIR PORT      (FAKE_MEM in MiB)
#
# Needs root and Debian's slurm-wlm and munge. Ended by slurm-down.sh DIR.
set -euo pipefail
D=${1:?folder} PORT=${2:?port}
source "$(dirname "$0")/slurm-common.sh"

host=$(hostname -s)
gres=gpu:${GPU_TYPE:?}:${GPUS:?}
write_configuration "$host" 127.0.0.1 <<CONF
NodeName=$host NodeAddr=127.0.0.1 CPUs=${FAKE_CPUS:?} RealMemory=${FAKE_MEM:?} Gres=$gres State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
make_gpus "$GPUS"
echo "NodeName=$host Name=gpu Type=$GPU_TYPE File=$D/gpu[0-$((GPUS - 1))]" >"$D/gres.conf"
start_controller
setsid /usr/sbin/slurmd -D >"$D/log/node.out" 2>&1 </dev/null &
echo $! >"$D/run/node.pid"
wait_for_nodes 1
