# /home/user/project/results/mistral-7b-two-nodes-HASH/slurm/train.sh
#!/usr/bin/env bash
# Train.
#SBATCH --job-name=mistral-7b-two-nodes-train
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --kill-on-invalid-dep=yes

set -euo pipefail
export MATHREASON_RESULTS=/home/user/project/results
export MATHREASON_DATA_DIR=/home/user/project/data
export RUNTIME=native
export MAX_RESTARTS=10
cd /home/user/project
source /home/user/project/results/mistral-7b-two-nodes-HASH/slurm/common.sh
train /home/user/project/results/mistral-7b-two-nodes-HASH --accelerate-config zero3_cpu_offload
# sbatch --output=/home/user/project/results/mistral-7b-two-nodes-HASH/slurm/%x-%j.log /home/user/project/results/mistral-7b-two-nodes-HASH/slurm/train.sh

