#!/usr/bin/env bash
# Train TinyLlama-1.1B (one GPU), or the JOB given; stopped before its time is up, it requeues itself.
#
#   sbatch slurm/train_tinyllama.sh [JOB_OR_RUN] [options of mathreason train]
#   RUNTIME=docker IMAGE=mathreason sbatch --time=04:00:00 slurm/train_tinyllama.sh
#
#SBATCH --job-name=train-tinyllama
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
(($#)) || set -- jobs/tinyllama.yaml
train "$@"
