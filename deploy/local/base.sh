#!/bin/sh
# Makes the base image of every image here from Debian's packages, without a registry:
#
#   deploy/local/base.sh         as root, with mmdebstrap installed
#
# It is Debian 12 with Python 3.11, and trusts the certificates that this machine trusts. MLPIPE_DEBIAN_MIRROR names a
# mirror of Debian; default: mmdebstrap's own. An image that is there already is left alone; `docker rmi` it to have it
# made anew.
set -eu
image=mlpipe-local/python:3.11
if docker image inspect "$image" >/dev/null 2>&1; then
  echo "$image is there already" >&2
  exit 0
fi
# Not through a pipe: half of a system would become an image, too.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3.11,python3.11-venv,python-is-python3 \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
  bookworm "$folder/system.tar" ${MLPIPE_DEBIAN_MIRROR:+"$MLPIPE_DEBIAN_MIRROR"}
docker import --change 'ENV LANG=C.UTF-8' --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' \
  --change 'CMD ["python"]' "$folder/system.tar" "$image"
