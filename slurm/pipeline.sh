#!/usr/bin/env bash
# Base evaluation beside training, tuned evaluation in shards after it, then comparison and report. Run it where
# sbatch is: it submits the jobs and ends.
#
#   bash slurm/pipeline.sh JOB [options of mathreason submit]

set -euo pipefail
exec mathreason submit --pipeline "$@"
