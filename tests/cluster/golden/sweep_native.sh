# /home/user/project/results/rates-sweep-HASH/slurm/sweep.sh
#!/usr/bin/env bash
# One run of a sweep.
#SBATCH --job-name=rates-sweep
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --array=1-4
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --kill-on-invalid-dep=yes

set -euo pipefail
export MATHREASON_RESULTS=/home/user/project/results
export RUNTIME=native
export MAX_RESTARTS=10
cd /home/user/project
source /home/user/project/results/rates-sweep-HASH/slurm/common.sh
carry_out mathreason sweep /home/user/project/results/rates-sweep-HASH/slurm/job.yaml --only "$SLURM_ARRAY_TASK_ID/4"
# sbatch --output=/home/user/project/results/rates-sweep-HASH/slurm/%x-%A_%a.log /home/user/project/results/rates-sweep-HASH/slurm/sweep.sh
