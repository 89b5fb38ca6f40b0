#!/bin/sh
# Writes .env beside docker-compose.yaml with a new secret for each that it asks for. One that exists is left alone.
set -eu
cd "$(dirname "$0")/.."
if test -e .env; then
  echo ".env is there already" >&2
  exit 0
fi
umask 077
{
  for name in MLPIPE_ADMIN_PASSWORD MLPIPE_DB_PASSWORD MLPIPE_JWT_SECRET MLPIPE_REDIS_PASSWORD MLPIPE_S3_KEY MLPIPE_S3_SECRET \
    MLPIPE_SECRET_KEY; do
    # Letters and digits only, for some stand in URLs; as many as the signature of a token has bytes.
    echo "$name=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
  done
  echo "MLPIPE_FERNET_KEY=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
} > .env.new
mv .env.new .env
echo "secrets written to .env; the user is admin, the password MLPIPE_ADMIN_PASSWORD in it" >&2
