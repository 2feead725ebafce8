#!/bin/sh
# The settings belong beside the instance's files, on the volume that all services share.
set -eu
cp /opt/secateur/dagster.yaml "$DAGSTER_HOME/dagster.yaml"
exec "$@"
