# Trainer and evaluator in one image. docker/README.md says how to run it.
#
#   docker/build.sh                                               tags mathreason:VERSION and mathreason:latest
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD/results:/results" mathreason train jobs/tinyllama.yaml
#
# Both images need the same Python. torch's wheels bring CUDA's libraries, so the second needs none of its own.
ARG BUILD_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
ARG BASE_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04

FROM ${BUILD_IMAGE} AS dependencies
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ libaio-dev python3-dev python3-venv \
  && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/mathreason
ENV PATH=/opt/mathreason/bin:$PATH
WORKDIR /build

# The dependencies, in their locked versions, before the source, which changes more often.
# TORCH=torch==2.13.0+cpu, where pip's index has that build, makes a smaller image for CPUs.
ARG TORCH=
COPY constraints.txt pyproject.toml docker/dependencies.py ./
RUN grep -v '^torch==' constraints.txt > others.txt \
  && pip install -c others.txt "${TORCH:-$(grep '^torch==' constraints.txt)}" \
  && python dependencies.py > dependencies.txt \
  && pip install -c constraints.txt -r dependencies.txt

COPY docker/portable-cxx docker/deepspeed.sh /usr/local/bin/
RUN deepspeed.sh constraints.txt

FROM dependencies AS package
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheel .

FROM ${BASE_IMAGE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# gcc and Python's headers: Triton compiles a small C file for each kernel that it launches.
# libaio-dev, for libaio: the package of the library alone has another name in each release.
# hadolint ignore=DL3008
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    ca-certificates gcc libaio-dev libc6-dev python3 python3-dev \
  && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*.log \
  && mkdir -m 1777 /results /data /cache /workspace
COPY --from=dependencies /opt/mathreason /opt/mathreason
RUN --mount=type=bind,from=package,source=/wheel,target=/wheel \
  /opt/mathreason/bin/pip install --no-cache-dir --no-deps /wheel/*.whl
COPY jobs /workspace/jobs
WORKDIR /workspace

# For any uid, with or without a name, and a root file system that may be read-only: only /tmp is written to,
# and what is mounted. Models are looked for in /cache/huggingface.
ENV PATH=/opt/mathreason/bin:$PATH \
  HOME=/tmp USER=mathreason LOGNAME=mathreason \
  HF_HOME=/cache/huggingface XDG_CACHE_HOME=/tmp/cache \
  TRITON_CACHE_DIR=/tmp/triton TORCHINDUCTOR_CACHE_DIR=/tmp/inductor TORCH_EXTENSIONS_DIR=/tmp/torch_extensions \
  MATHREASON_RESULTS=/results MATHREASON_DATA_DIR=/data \
  PYTHONUNBUFFERED=1

ARG VERSION=unknown
ARG REVISION=
ENV MATHREASON_GIT_REVISION=$REVISION
LABEL org.opencontainers.image.title="mathreason" \
  org.opencontainers.image.description="Fine-tune a language model for mathematical reasoning and know, honestly, whether it got better" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION"

USER 1000:1000
ENTRYPOINT ["mathreason"]
CMD ["--help"]
