#!/bin/sh
# Starts PostgreSQL as the official image does, as far as docker-compose.yaml needs it: makes the database POSTGRES_DB
# of POSTGRES_USER with POSTGRES_PASSWORD where the volume is empty.
set -eu
if test ! -s "$PGDATA/PG_VERSION"; then
  umask 077
  printf '%s' "${POSTGRES_PASSWORD:?}" >/tmp/password
  initdb --username "${POSTGRES_USER:=postgres}" --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  # Nobody else may see a server that is not ready.
  pg_ctl start --wait --options "-c listen_addresses=''"
  if test "${POSTGRES_DB:=$POSTGRES_USER}" != postgres; then
    createdb --username "$POSTGRES_USER" --maintenance-db postgres "$POSTGRES_DB"
  fi
  pg_ctl stop --wait --mode fast
fi
exec postgres -c listen_addresses='*' "$@"
