#!/usr/bin/env bash
# Tells, before `make run` starts the server, how to use it.
cat <<'H'
casd serves ./data/d1 to d6 (erasure 4+2) on http://127.0.0.1:9000; ctrl-C stops it. In another terminal:

  export CASD_ROOT_USER=...  CASD_ROOT_PASSWORD=...     # yours when set here too, else those in data/d1/root-credentials.json
  export AWS_ACCESS_KEY_ID=$CASD_ROOT_USER AWS_SECRET_ACCESS_KEY=$CASD_ROOT_PASSWORD AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url http://127.0.0.1:9000 s3 mb s3://demo
  aws --endpoint-url http://127.0.0.1:9000 s3 cp README.md s3://demo/
  ./bin/casd stats --endpoint http://127.0.0.1:9000

H
