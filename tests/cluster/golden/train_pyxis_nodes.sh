# /home/user/project/results/small-HASH/slurm/train.sh
#!/usr/bin/env bash
# Train.
#SBATCH --job-name=small-train
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=480G
#SBATCH --time=08:00:00
#SBATCH --partition=gpu
#SBATCH --account=maths
#SBATCH --qos=high
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --constraint=a100
#SBATCH --exclusive

set -euo pipefail
export MATHREASON_RESULTS=/home/user/project/results
export RUNTIME=pyxis
export IMAGE=mathreason+latest.sqsh
export MAX_RESTARTS=10
cd /home/user/project
source /home/user/project/results/small-HASH/slurm/common.sh
train /home/user/project/results/small-HASH --accelerate-config ddp
# sbatch --output=/home/user/project/results/small-HASH/slurm/%x-%j.log /home/user/project/results/small-HASH/slurm/train.sh
