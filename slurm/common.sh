# shellcheck shell=bash
# What all batch scripts share: where the program runs, how it is started on the nodes, and how it survives them.
#
#   source .../slurm/common.sh
#   train JOB [options of mathreason train]       one process, several GPUs or several nodes, as the job has them
#   carry_out mathreason evaluate JOB ...         any other command
#
# Set by the user in the environment (sbatch passes it on):
#   RUNTIME       native (default), docker, apptainer or pyxis;  IMAGE: the container image
#   MAX_RESTARTS  how often the job may requeue itself, 10
#   STAGE         1: copy what the job reads of data and model cache to the node's own disk first, 0: do not; 1 where
#                 SLURM_TMPDIR or MATHREASON_LOCAL_DISK says that there is such a disk
#   MATHREASON_RESULTS, MATHREASON_DATA_DIR, HF_HOME
#
# Before the time is up or the job is preempted Slurm signals this shell alone (--signal=B:USR1@300, SIGTERM). It then
# makes a stop file: the program saves and ends with 0, and the job requeues itself. No signal has to cross srun,
# torchrun or a container. The program says in FILE.obeyed that it stopped, so that stopped is never taken for done.

set -euo pipefail

: "${RUNTIME:=native}" "${IMAGE:=mathreason}" "${MAX_RESTARTS:=10}" "${SLURM_JOB_ID:=0}"
: "${MATHREASON_RESULTS:=$PWD/results}"
[[ $MATHREASON_RESULTS == /* ]] || MATHREASON_RESULTS=$PWD/$MATHREASON_RESULTS
export MATHREASON_RESULTS
# By its whole path, for containers, whose own default would be another folder.
[[ -n ${MATHREASON_DATA_DIR:-} || ! -d data ]] || MATHREASON_DATA_DIR=$PWD/data
[[ -z ${MATHREASON_DATA_DIR:-} || $MATHREASON_DATA_DIR == /* ]] || MATHREASON_DATA_DIR=$PWD/$MATHREASON_DATA_DIR
[[ -z ${MATHREASON_DATA_DIR:-} ]] || export MATHREASON_DATA_DIR
data=${MATHREASON_DATA_DIR:-}
# Compute nodes are taken to be offline; `mathreason data prefetch JOB` on the login node fetches what is needed.
export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}
export HF_DATASETS_OFFLINE=${HF_DATASETS_OFFLINE:-$HF_HUB_OFFLINE}
export TOKENIZERS_PARALLELISM=false
export HF_HOME=${HF_HOME:-${XDG_CACHE_HOME:-${HOME:-$PWD}/.cache}/huggingface}
[[ $HF_HOME == /* ]] || HF_HOME=$PWD/$HF_HOME
[[ -z ${HF_HUB_CACHE:-} || $HF_HUB_CACHE == /* ]] || HF_HUB_CACHE=$PWD/$HF_HUB_CACHE
models=${HF_HUB_CACHE:-$HF_HOME/hub}
# srun no longer takes this over from sbatch by itself (Slurm 22.05).
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
# Of `sbatch --export=NONE`, which many sites ask for: srun would leave out what is exported here as well.
unset SLURM_EXPORT_ENV

task=$SLURM_JOB_ID
[[ -z ${SLURM_ARRAY_TASK_ID:-} ]] || task=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}

say() { printf '%s %s: %s\n' "$(date -u +%FT%TZ)" "$(hostname -s)" "$*" >&2; }

# Run COMMAND until it succeeds, for two minutes: a controller that changes over does not answer meanwhile.
persist() {
  local try
  for ((try = 0; try < 12; try++)); do
    "$@" 2>/dev/null && return
    sleep 10
  done
  return 1
}

# What the user got wrong: exit code 2, which is never tried again.
refuse() {
  say "Error: $*"
  exit 2
}

# -- this node ---------------------------------------------------------------------------------------------------

# A folder of the job's own on the node's disk, for compiled kernels and temporary files; gone at the end.
open_scratch() {
  : "${STAGE:=${SLURM_TMPDIR:+1}}" "${STAGE:=${MATHREASON_LOCAL_DISK:+1}}"
  export STAGE # decided here for all nodes, which are given MATHREASON_LOCAL_DISK in any case
  export MATHREASON_LOCAL_DISK=${SLURM_TMPDIR:-${MATHREASON_LOCAL_DISK:-${TMPDIR:-/tmp}}}
  trap close_scratch EXIT
  scratch=$(mktemp -d "$MATHREASON_LOCAL_DISK/mathreason-$task.XXXXXX")
  export TMPDIR=$scratch
  # Caches that jobs share have been seen to be read while another job writes them.
  export TRITON_CACHE_DIR=$scratch/triton TORCHINDUCTOR_CACHE_DIR=$scratch/inductor
}

# Put what COMMAND reads of data and model cache on this node's disk.
stage() {
  local words
  [[ $STAGE == 1 ]] || return 0
  if [[ $RUNTIME == pyxis && ${SLURM_JOB_NUM_NODES:-1} != 1 ]]; then
    say "STAGE=1 is not for Pyxis on several nodes: nothing is copied"
    return
  fi
  words=$(words_of "$@")
  staged MATHREASON_DATA_DIR "$data"
  staged HF_HUB_CACHE "$models"
}

# Arguments, and what stands in the jobs among them.
words_of() {
  local word
  for word; do
    printf '%s\n' "$word"
    [[ ! -d $word ]] || word+=/job.yaml
    [[ ! -f $word ]] || head -c 1000000 -- "$word" | tr -d '\0' || true
  done
}

# Set VARIABLE to a folder with copies of those entries of FOLDER that `words` names, and with links to the others;
# leave it as it is where that cannot be had.
staged() {
  local entry name size free found=() copy=$scratch/$1
  [[ -n $2 && -d $2 && ! -e $copy ]] || return 0
  for entry in "$2"/*; do
    [[ -e $entry ]] || continue
    name=${entry##*/}
    name=${name#models--} # of the Hub's a/b the cache has models--a--b
    [[ $words != *"${name//--//}"* ]] || found+=("$entry")
  done
  if [[ ${#found[@]} == 0 ]]; then
    say "nothing copied of $2: the job names none of it"
    return
  fi
  if ! size=$(du -Dskc -- "${found[@]}" | tail -n1 | cut -f1) || ! free=$(df -k --output=avail "$scratch" | tail -n1); then
    say "not copied to $scratch: $2 cannot be read whole"
  elif ((size + 1048576 > free)); then
    say "not copied to $scratch: of $2 the job needs $((size / 1024)) MiB, $((free / 1024)) MiB are free"
  elif mkdir "$copy" && cp -aH -- "${found[@]}" "$copy" && chmod -R u+w "$copy" && link_others "$2" "$copy"; then
    say "copied what the job reads of $2 to $scratch ($((size / 1024)) MiB)"
    export "$1=$copy"
  else
    say "not copied to $scratch: $2; it is read where it is"
    rm -rf -- "$copy" || true
  fi
}

# Link what FOLDER has and COPY lacks.
link_others() {
  local entry
  for entry in "$1"/*; do
    [[ -e $2/${entry##*/} ]] || ln -s -- "$entry" "$2" || return
  done
}

# Leave nothing behind on this node; a container outlives the client that started it. What fails here must not fail
# the job: bash would end with its exit code.
# shellcheck disable=SC2329  # called by a trap
close_scratch() {
  [[ -z ${container:-} ]] || docker rm -f "$container" >/dev/null 2>&1 || true
  [[ -z ${stop_file:-} ]] || rm -f -- "$stop_file" "$stop_file.obeyed" || true
  [[ -z ${scratch:-} ]] || rm -rf -- "$scratch" || say "$scratch could not be removed"
}

# -- the container -----------------------------------------------------------------------------------------------

# Put the folders that the program sees in a container, at the same places as outside, into the array `folders`.
# UNFIT: a pattern of what ends the option that mounts one.
visible_folders() {
  local folder unfit=$1 found=()
  for folder in "$PWD" "$MATHREASON_RESULTS" "$data" "$HF_HOME" "$models" "$scratch"; do
    [[ -n $folder && -d $folder ]] || continue
    [[ $folder != *$unfit* ]] || refuse "RUNTIME=$RUNTIME cannot mount $(printf %q "$folder"), for a character in its name"
    found+=("$folder")
  done
  mapfile -d '' -t folders < <(printf '%s\0' "${found[@]}" | sort -zu)
}

# Names of the variables that a container takes over from the job.
passed_on() {
  compgen -e | grep -E '^(MATHREASON_|HF_|SLURM_|NCCL_|GLOO_|TORCH|TRITON_|OMP_|CUDA_VISIBLE_DEVICES$|TMPDIR$|TOKENIZERS_)' |
    grep -vE '^(MATHREASON_GIT_REVISION|HF_TOKEN)$'
}

# Put the command that runs PROGRAM ARG... in the chosen runtime into the array `command`.
in_runtime() {
  local folder group name gpus
  stage "$@"
  case $RUNTIME in
    native)
      command=("$@")
      ;;
    docker)
      visible_folders '[:]'
      container=mathreason-$task
      # Of an earlier start of this job, where Slurm lost the node and Docker did not.
      docker rm -f "$container" >/dev/null 2>&1 || true
      command=(docker run --rm --init --name "$container" --user "$(id -u):$(id -g)" --ipc=host --network host)
      # A project's folder is often its group's, and that seldom the user's first.
      for group in $(id -G); do command+=(--group-add "$group"); done
      # Those of the job alone, which are numbered from 0 inside, whatever CUDA_VISIBLE_DEVICES says outside.
      gpus=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-}}
      [[ -z $gpus || ! -e /dev/nvidiactl ]] || command+=(--gpus "\"device=$gpus\"")
      for folder in "${folders[@]}"; do command+=(--volume "$folder:$folder"); done
      while read -r name; do command+=(--env "$name"); done < <(passed_on | grep -vx CUDA_VISIBLE_DEVICES)
      command+=(--workdir "$PWD" --entrypoint "$1" "$IMAGE" "${@:2}")
      ;;
    apptainer)
      visible_folders $'[:,"\\\\\n]'
      # By these names, so that neither the image's own values nor the definition file's win.
      command=(env)
      while read -r name; do command+=("APPTAINERENV_$name=${!name}"); done < <(passed_on)
      command+=(apptainer exec)
      [[ ! -e /dev/nvidiactl ]] || command+=(--nv)
      for folder in "${folders[@]}"; do command+=(--bind "$folder"); done
      command+=(--pwd "$PWD" "$IMAGE" "$@")
      ;;
    pyxis)
      visible_folders '[:,"\\[:space:]]'
      pyxis_options
      command=(srun "${nodes[@]}" "${pyxis[@]}" "$@")
      ;;
    *) refuse "RUNTIME=$RUNTIME: choose native, docker, apptainer or pyxis" ;;
  esac
}

# Options of srun with which Pyxis runs a step in IMAGE. Variables of the image win over the job's unless named.
pyxis_options() {
  local mounts names pattern='^$'
  # The other nodes have no such folder; what it holds is made in the container's own /tmp there.
  [[ ${SLURM_JOB_NUM_NODES:-1} == 1 ]] || pattern=$scratch
  mounts=$(printf '%s\n' "${folders[@]}" | grep -vxF -e "$pattern" | sed 's/.*/&:&/' | paste -sd,)
  names=$(passed_on | while read -r name; do [[ ${!name} == "$pattern"* ]] || echo "$name"; done | paste -sd,)
  pyxis=(--container-image="$IMAGE" --container-mounts="$mounts" --container-workdir="$PWD" --container-env="$names")
}

# -- the program -------------------------------------------------------------------------------------------------

# Run PROGRAM ARG... in the chosen runtime to its end; requeue the job where it was stopped by the scheduler.
carry_out() {
  in_runtime "$@"
  carry_out_command
}

carry_out_command() {
  local status
  rm -f -- "$stop_file.obeyed"
  if await "${command[@]}"; then status=0; else status=$?; fi
  if [[ $status == 0 && -e $stop_file.obeyed ]]; then
    stopped "$(<"$stop_file.obeyed")"
  fi
  return "$status"
}

# Run PROGRAM ARG... to its end, through the signals that come meanwhile.
await() {
  local status
  interrupted=0
  "$@" &
  child=$! # so no trap may start anything in the background: it could come in between
  while :; do
    if wait "$child"; then status=0; else status=$?; fi
    ((interrupted)) || return "$status" # else it was a trap that ended the wait
    interrupted=0
    [[ ${asked:-} != TERM ]] || end_container &
  done
}

# shellcheck disable=SC2329  # called by a trap
ask_to_stop() {
  asked=$1
  interrupted=1
  say "SIG$1: asking the program to save and stop"
  : >"$stop_file"
}

# Some time after SIGTERM (KillWait) Slurm kills this shell, and no container: end it before, should the job be ending.
end_container() {
  local seconds
  [[ -n ${container:-} ]] || return 0
  seconds=$(scontrol show config | awk '$1 == "KillWait" { print $3 }' || true)
  sleep $((${seconds:-30} * 2 / 3))
  [[ $(scontrol show job "$task") == *JobState=RUNNING* ]] || docker rm -f "$container"
}

# The program has saved and stopped because of REASON: go on in a new start, or say who has to.
stopped() {
  local restarts=${SLURM_RESTART_COUNT:-0} facts
  case $1 in
    "a STOP file" | "the deadline" | Ctrl-C)
      say "stopped by $1; submit the same job again to go on"
      exit "${EXIT_WHEN_STOPPED:-0}"
      ;;
  esac
  # A job that Slurm is ending is COMPLETING: cancelled, or requeued by Slurm itself. A time limit it leaves to us.
  if ! facts=$(persist scontrol show job "$task"); then
    say "Error: stopped by ${asked:+SIG$asked: }$1, and Slurm does not answer, so that job $task is not requeued; submit it again to go on"
    exit 1
  fi
  if [[ $facts != *JobState=RUNNING* && $facts != *Reason=TimeLimit* ]]; then
    say "stopped by Slurm; everything is saved"
    exit "${EXIT_WHEN_STOPPED:-0}"
  fi
  if ((restarts >= MAX_RESTARTS)); then
    say "stopped by ${asked:+SIG$asked: }$1 after $restarts restarts, the most that MAX_RESTARTS allows; submit it again to go on"
    exit 1
  fi
  trap - USR1
  trap 'exit 1' TERM # sent by the requeue itself
  say "stopped by ${asked:+SIG$asked: }$1; requeued, restart $((restarts + 1)) of at most $MAX_RESTARTS"
  persist scontrol requeue "$task" || true
  sleep 120 # Slurm ends this shell now; ending first would count as done
  say "Error: Slurm did not requeue job $task"
  exit 1
}

# `mathreason train` on what the job has: one process, one for each GPU of a node, or that on every node.
train() {
  local count=${SLURM_JOB_NUM_NODES:-1} each=${PROCESSES_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}} head port
  if [[ $count == 1 && $each == 1 ]]; then
    # One GPU is one rank, whatever number an accelerate configuration has.
    [[ -z ${SLURM_GPUS_ON_NODE:-} || " $* " != *" --accelerate-config"[\ =]* || " $* " == *" --processes"[\ =]* ]] ||
      set -- "$@" --processes 1
    carry_out mathreason train "$@"
  elif [[ $count == 1 ]]; then
    carry_out torchrun --standalone --nproc-per-node="$each" --max-restarts=0 -m mathreason train "$@"
  elif [[ $RUNTIME == docker ]]; then
    refuse "RUNTIME=docker trains on one node, as a cancelled job would leave containers on others; choose apptainer or pyxis"
  else
    read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
    port=$((20000 + SLURM_JOB_ID % 20000))
    nodes=(--nodes="$count" --ntasks="$count" --ntasks-per-node=1 --kill-on-bad-exit=1)
    set -- torchrun --nnodes="$count" --nproc-per-node="$each" --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" \
      --rdzv-endpoint="$head:$port" --max-restarts=0 -m mathreason train "$@"
    if [[ $RUNTIME == pyxis ]]; then
      in_runtime "$@"
    else
      command=(srun "${nodes[@]}" bash "$helper" "$@")
    fi
    carry_out_command
  fi
}

# -- when this file is read --------------------------------------------------------------------------------------

helper=$(realpath -- "${BASH_SOURCE[0]}")
home=${MATHREASON_HOME:-$(dirname -- "$(dirname -- "$helper")")}
# Native runs: the installation that submitted, else the environment that `make quickstart` makes.
PATH=${MATHREASON_BIN:-$home/.venv/bin}:$PATH
nodes=(--nodes=1 --ntasks=1)
jobs=$MATHREASON_RESULTS/.jobs
mkdir -p -- "$jobs" || refuse "the folder $jobs cannot be made"
# Who may write results may leave a stop file, whoever of several users came first.
[[ ! -O $jobs ]] || chmod --reference="$MATHREASON_RESULTS" -- "$jobs" || true
[[ -w $jobs ]] || refuse "$jobs cannot be written, so that this job could not be asked to save and stop; its owner mends it"
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then
  # Clusters that share the file system number their jobs each for itself.
  export MATHREASON_STOP_FILE=$jobs/${SLURM_CLUSTER_NAME:+$SLURM_CLUSTER_NAME-}$task
  stop_file=$MATHREASON_STOP_FILE
  rm -f -- "$stop_file"
  asked=""
  trap 'ask_to_stop USR1' USR1
  trap 'ask_to_stop TERM' TERM
fi
open_scratch
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then # one node of several: srun started this file with the command to run
  trap 'interrupted=1' TERM
  in_runtime "$@"
  await "${command[@]}"
fi
