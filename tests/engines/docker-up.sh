#!/usr/bin/env bash
# A Docker daemon of its own in DIR, which listens at DIR/docker.sock. Needs root and Debian's docker.io and iptables.
#
#   docker-up.sh DIR            `kill $(cat DIR/dockerd.pid)` ends it
set -euo pipefail
D=${1:?folder}
mkdir -p "$D"
setsid dockerd --data-root "$D/data" --exec-root "$D/exec" --pidfile "$D/dockerd.pid" -H "unix://$D/docker.sock" \
  --storage-driver overlay2 >"$D/dockerd.log" 2>&1 </dev/null &
export DOCKER_HOST=unix://$D/docker.sock
for _ in $(seq 150); do
  if /usr/bin/docker version >/dev/null 2>&1; then exit 0; fi
  sleep 0.2
done
tail -n 20 "$D/dockerd.log" >&2
exit 1
