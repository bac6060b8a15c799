#!/usr/bin/env bash
# Part of the image's build: install DeepSpeed with what it would otherwise compile at its first start, the optimizer on
# CPUs and asynchronous access to files. Its fused GPU kernels are left out: nothing here calls them.
#
#   deepspeed.sh CONSTRAINTS
set -euo pipefail
constraints=$1
if command -v nvcc >/dev/null; then
  echo "CUDA toolkit: $(nvcc --version | tail -n 1)"
else
  echo "WARNING: no CUDA toolkit in the build image: DeepSpeed's operators are built for CPUs only" >&2
fi
pip install -c "$constraints" ninja packaging psutil py-cpuinfo setuptools tqdm wheel
# Without ninja it compiles one file after the other; what it links is not always what it needs.
export CXX=portable-cxx LDFLAGS="-Wl,--no-as-needed -laio"
DS_ENABLE_NINJA=1 DS_SKIP_CUDA_CHECK=1 DS_BUILD_OPS=0 DS_BUILD_CPU_ADAM=1 DS_BUILD_AIO=1 \
  pip install -c "$constraints" --no-build-isolation deepspeed
python3 -c 'from deepspeed.git_version_info import installed_ops as ops; assert ops["cpu_adam"] and ops["async_io"], ops
from deepspeed.ops.op_builder import AsyncIOBuilder, CPUAdamBuilder
CPUAdamBuilder().load(), AsyncIOBuilder().load()'
