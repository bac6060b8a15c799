#!/usr/bin/env bash
# Train Mistral-7B (nf4, one GPU of 24 GiB or more), or the JOB given; stopped before its time is up, it requeues itself.
#
#   sbatch slurm/train_mistral.sh [JOB_OR_RUN] [options of mathreason train]
#   RUNTIME=docker IMAGE=mathreason sbatch --time=08:00:00 slurm/train_mistral.sh
#
#SBATCH --job-name=train-mistral
#SBATCH --output=%x-%j.log
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
(($#)) || set -- jobs/mistral_7b.yaml
train "$@"
