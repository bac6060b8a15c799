#!/usr/bin/env bash
# A Slurm of several nodes on one machine: each has its own network, host name, processes and loopback, and can be
# killed as a whole (slurm-node.sh). They meet on the bridge slurmtest0, 10.77.0.0/24.
#
#   slurm-nodes-up.sh DIR PORT NODES
#
# Needs root and Debian's slurm-wlm, munge, iproute2 and iptables. Ended by slurm-down.sh DIR.
set -euo pipefail
D=${1:?folder} PORT=${2:?port} NODES=${3:?number of nodes}
here=$(dirname "$0")
source "$here/slurm-common.sh"

net=10.77.0 host=$(hostname -s)
remove_networks
touch "$D/networks"
ip link add $BRIDGE type bridge
ip addr add $net.1/24 dev $BRIDGE
ip link set $BRIDGE up
# A docker daemon drops what is forwarded, bridged frames included.
iptables -I FORWARD 1 -i $BRIDGE -o $BRIDGE -j ACCEPT
hosts="127.0.0.1 localhost"$'\n'"$net.1 $host"
for ((i = 1; i <= NODES; i++)); do hosts+=$'\n'"$net.$((10 + i)) node$i"; done
for ((i = 1; i <= NODES; i++)); do
  space=slurmtest$i
  mkdir -p "/etc/netns/$space"
  echo "$hosts" >"/etc/netns/$space/hosts" # `ip netns exec` shows it as /etc/hosts
  ip netns add $space
  ip link add "slurmveth$i" type veth peer name eth0 netns $space
  ip link set "slurmveth$i" master $BRIDGE up
  ip -n $space link set lo up
  ip -n $space addr add "$net.$((10 + i))/24" dev eth0
  ip -n $space link set eth0 up
done
{
  echo "NodeName=DEFAULT CPUs=16 RealMemory=100000 Gres=gpu:1 State=UNKNOWN"
  for ((i = 1; i <= NODES; i++)); do echo "NodeName=node$i NodeAddr=$net.$((10 + i))"; done
  echo "PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
} | write_configuration "$host" $net.1
make_gpus 1
echo "NodeName=node[1-$NODES] Name=gpu File=$D/gpu0" >"$D/gres.conf"
start_controller
for ((i = 1; i <= NODES; i++)); do "$here/slurm-node.sh" "$D" "$i"; done
wait_for_nodes "$NODES"
