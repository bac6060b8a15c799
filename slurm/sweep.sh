#!/usr/bin/env bash
# The runs of an ablation, each in a task of an array; the last one to end writes the comparison.
#
#   sbatch --array=1-12 slurm/sweep.sh jobs/ablations/quickstart_rank.yaml [options of mathreason sweep]
#   mathreason submit jobs/ablations/quickstart_rank.yaml       the same, with the array as long as the sweep
#
#SBATCH --job-name=sweep
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue

# shellcheck source-path=SCRIPTDIR source=common.sh
source "${MATHREASON_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/common.sh"
(($#)) || refuse "which ablation? sbatch --array=1-N slurm/sweep.sh JOB"
[[ -n ${SLURM_ARRAY_TASK_ID:-} ]] || refuse "an array is needed, one task for each run: sbatch --array=1-N slurm/sweep.sh $1"
carry_out mathreason sweep "$@" --only "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
