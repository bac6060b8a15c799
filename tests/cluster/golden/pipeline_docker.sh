# /home/user/project/results/small-HASH/slurm/train.sh
#!/usr/bin/env bash
# Train.
#SBATCH --job-name=small-train
#SBATCH --open-mode=append
#SBATCH --nodes=1
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
export RUNTIME=docker
export IMAGE=mathreason
export MAX_RESTARTS=10
export EXIT_WHEN_STOPPED=1
cd /home/user/project
source /home/user/project/results/small-HASH/slurm/common.sh
train /home/user/project/results/small-HASH
# sbatch --output=/home/user/project/results/small-HASH/slurm/%x-%j.log /home/user/project/results/small-HASH/slurm/train.sh

# /home/user/project/results/small-HASH/slurm/base.sh
#!/usr/bin/env bash
# Evaluate the base model.
#SBATCH --job-name=small-base
#SBATCH --open-mode=append
#SBATCH --nodes=1
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
export RUNTIME=docker
export IMAGE=mathreason
export MAX_RESTARTS=10
export EXIT_WHEN_STOPPED=1
cd /home/user/project
source /home/user/project/results/small-HASH/slurm/common.sh
carry_out mathreason evaluate /home/user/project/results/small-HASH --variant base --shard 1/1
# sbatch --output=/home/user/project/results/small-HASH/slurm/%x-%j.log /home/user/project/results/small-HASH/slurm/base.sh

# /home/user/project/results/small-HASH/slurm/tuned.sh
#!/usr/bin/env bash
# Evaluate the tuned model, in shards.
#SBATCH --job-name=small-tuned
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=480G
#SBATCH --time=08:00:00
#SBATCH --partition=gpu
#SBATCH --account=maths
#SBATCH --qos=high
#SBATCH --array=1-4
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --constraint=a100
#SBATCH --exclusive

set -euo pipefail
export MATHREASON_RESULTS=/home/user/project/results
export RUNTIME=docker
export IMAGE=mathreason
export MAX_RESTARTS=10
export EXIT_WHEN_STOPPED=1
cd /home/user/project
source /home/user/project/results/small-HASH/slurm/common.sh
carry_out mathreason evaluate /home/user/project/results/small-HASH --variant tuned --shard "$SLURM_ARRAY_TASK_ID/4"
# sbatch --output=/home/user/project/results/small-HASH/slurm/%x-%A_%a.log '--dependency=afterok:<train>' /home/user/project/results/small-HASH/slurm/tuned.sh

# /home/user/project/results/small-HASH/slurm/report.sh
#!/usr/bin/env bash
# Compare base and tuned, write the report.
#SBATCH --job-name=small-report
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=01:00:00
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
export RUNTIME=docker
export IMAGE=mathreason
export MAX_RESTARTS=10
cd /home/user/project
source /home/user/project/results/small-HASH/slurm/common.sh
carry_out mathreason compare /home/user/project/results/small-HASH >/dev/null
carry_out mathreason report /home/user/project/results/small-HASH
# sbatch --output=/home/user/project/results/small-HASH/slurm/%x-%j.log '--dependency=afterok:<base>,afterok:<tuned>' /home/user/project/results/small-HASH/slurm/report.sh

# /home/user/project/results/small-HASH/slurm/cleanup.sh
#!/usr/bin/env bash
# After a training that failed: nobody needs the base evaluation any more.
#SBATCH --job-name=small-cleanup
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=01:00:00
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
export RUNTIME=docker
export IMAGE=mathreason
export MAX_RESTARTS=10
cd /home/user/project
source /home/user/project/results/small-HASH/slurm/common.sh
scancel "$@"
# sbatch --output=/home/user/project/results/small-HASH/slurm/%x-%j.log '--dependency=afternotok:<train>' /home/user/project/results/small-HASH/slurm/cleanup.sh '<base>'
