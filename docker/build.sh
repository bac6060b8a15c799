#!/usr/bin/env bash
# Build the image with its version and git revision inside; further arguments go to `docker build`.
#
#   docker/build.sh
#   docker/build.sh --build-arg BUILD_IMAGE=debian:12 --build-arg BASE_IMAGE=debian:12-slim

set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' mathreason/__init__.py)
revision=$(git rev-parse HEAD 2>/dev/null || true)
[[ -z $revision || -z $(git status --porcelain) ]] || revision+=-dirty
exec env DOCKER_BUILDKIT=1 docker build --build-arg VERSION="$version" --build-arg REVISION="$revision" \
  --tag "mathreason:$version" --tag mathreason:latest "$@" .
