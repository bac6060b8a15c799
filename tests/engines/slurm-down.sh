#!/usr/bin/env bash
# End the cluster in DIR, of one node or of several.
#
#   slurm-down.sh DIR
set -uo pipefail
D=${1:?folder}
source "$(dirname "$0")/slurm-common.sh"

for file in "$D"/run/{node*,slurmctld,munged}.pid; do
  if [[ -s $file ]]; then kill -9 "$(<"$file")" 2>/dev/null; fi
done
if [[ -e $D/networks ]]; then remove_networks; fi
