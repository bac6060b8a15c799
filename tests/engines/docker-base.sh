#!/usr/bin/env bash
# A base image from this machine's Debian mirror, for where none can be pulled, with the machine's own certificates and
# settings of apt and pip, so that a Dockerfile needs none. Needs debootstrap, and DOCKER_HOST.
#
#   docker-base.sh TAG
set -euo pipefail
tag=${1:?tag}
root=$(mktemp -d "${TMPDIR:-/tmp}/base.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT
source /etc/os-release
# Of the first source in either of apt's two formats.
mirror=$({ cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } |
  sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' | sed -n 1p)
debootstrap --variant=minbase --include=ca-certificates "$VERSION_CODENAME" "$root" "$mirror" >"$root.log" 2>&1 ||
  { tail -n 20 "$root.log" >&2 && exit 1; }
rm -f "$root.log"
echo "deb $mirror $VERSION_CODENAME main" >"$root/etc/apt/sources.list"
cp -a /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp /etc/apt/apt.conf.d/99* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
{
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n'
  index=$(python3 -m pip config get global.index-url 2>/dev/null || true)
  [[ -z $index ]] || echo "index-url = $index"
} >"$root/etc/pip.conf"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*.log
chmod 755 "$root" # of mktemp's, it would be the mode of / in the image
tar -C "$root" -c . | /usr/bin/docker import \
  -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  -c 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt' - "$tag"
