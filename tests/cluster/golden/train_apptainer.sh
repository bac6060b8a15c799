# /home/user/project/results/small-HASH/slurm/train.sh
#!/usr/bin/env bash
# Train.
#SBATCH --job-name=small-train
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --kill-on-invalid-dep=yes

set -euo pipefail
export MATHREASON_RESULTS=/home/user/project/results
export RUNTIME=apptainer
export IMAGE=mathreason.sif
export MAX_RESTARTS=3
cd /home/user/project
source /home/user/project/results/small-HASH/slurm/common.sh
train /home/user/project/results/small-HASH
# sbatch --output=/home/user/project/results/small-HASH/slurm/%x-%j.log /home/user/project/results/small-HASH/slurm/train.sh
