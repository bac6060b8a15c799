# shellcheck shell=bash
# What the clusters of the tests share: the configuration, munge and the controller. Sourced; D is the folder,
# PORT the controller's port (slurmd has the next one).

# shellcheck disable=SC2034  # for those who source this
BRIDGE=slurmtest0

# Write D/slurm.conf for a controller HOST at ADDRESS; lines of nodes and partitions come on standard input.
write_configuration() {
  local host=$1 address=$2
  mkdir -p "$D"/{state,log,run}
  chmod 755 "$D" "$D/run"
  cat >"$D/slurm.conf" <<CONF
ClusterName=tests
SlurmctldHost=$host($address)
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
SlurmUser=root
SlurmdUser=root
SlurmdParameters=config_overrides
AuthType=auth/munge
# cred_expire is also how long a requeued job waits; 120 s without it
AuthInfo=socket=$D/run/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool.%n
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.%n.inside
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PriorityType=priority/basic
JobRequeue=1
KillWait=15
MinJobAge=3600
SlurmctldTimeout=10
SlurmdTimeout=10
GresTypes=gpu
AccountingStorageType=accounting_storage/none
CONF
  cat >>"$D/slurm.conf"
  echo 'CgroupPlugin=cgroup/v1' >"$D/cgroup.conf"
}

# COUNT devices that stand for GPUs: the null device under other names (a File= of gres.conf must be a device).
make_gpus() {
  local i
  for ((i = 0; i < $1; i++)); do mknod -m 666 "$D/gpu$i" c 1 3; done
}

start_controller() {
  head -c 1024 /dev/urandom >"$D/munge.key"
  chmod 400 "$D/munge.key"
  /usr/sbin/munged --force --socket="$D/run/munge.socket" --key-file="$D/munge.key" --pid-file="$D/run/munged.pid" \
    --log-file="$D/log/munged.log" --seed-file="$D/run/munged.seed"
  export SLURM_CONF=$D/slurm.conf
  /usr/sbin/slurmctld -i -c
}

# What nodes that never came down in an earlier cluster, or the one just ended, left of their networks.
remove_networks() {
  local space
  for space in $(ip netns list | awk '/^slurmtest[0-9]/ {print $1}'); do
    ip netns del "$space"
    rm -rf "/etc/netns/$space"
  done
  iptables -D FORWARD -i "$BRIDGE" -o "$BRIDGE" -j ACCEPT 2>/dev/null || true
  ip link del "$BRIDGE" 2>/dev/null || true
}

# Wait until COUNT nodes are idle.
wait_for_nodes() {
  local _
  for _ in $(seq 200); do
    [[ $(timeout 5 sinfo -h -o '%T %D' 2>/dev/null) == "idle $1" ]] && return
    sleep 0.1
  done
  sinfo -N -l || true
  tail -n 20 "$D"/log/*.log
  return 1
}
