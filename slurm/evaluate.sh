#!/usr/bin/env bash
# Evaluate base and tuned model of a job or run, in one process or, as an array, in shards.
#
#   sbatch slurm/evaluate.sh JOB_OR_RUN [options of mathreason evaluate]
#   sbatch --array=1-8 slurm/evaluate.sh results/RUN --variant tuned
#
#SBATCH --job-name=evaluate
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue

# shellcheck source-path=SCRIPTDIR source=common.sh
source "${MATHREASON_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/common.sh"
(($#)) || refuse "which job or run? sbatch slurm/evaluate.sh JOB_OR_RUN"
[[ -z ${SLURM_ARRAY_TASK_ID:-} ]] || set -- "$@" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
carry_out mathreason evaluate "$@"
