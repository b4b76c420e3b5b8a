#!/bin/sh
# Role of this container: web, worker, beat, migrate or agent; anything else is run as it stands.
set -eu
role=${1:-web}
[ $# -gt 0 ] && shift
case "$role" in
  migrate)
    python -m django migrate --no-input
    exec python -m django collectstatic --no-input ;;
  web)
    exec uvicorn parka.asgi:application --host 0.0.0.0 --port "${PORT:-8000}" --lifespan off \
      --timeout-graceful-shutdown 5 --no-access-log --workers "${WEB_WORKERS:-2}" "$@" ;;
  worker)
    exec celery -A parka worker -Q "${QUEUES:-server.default,server.ingest,server.build,server.egress}" \
      -c "${CONCURRENCY:-2}" -l INFO --without-gossip --without-mingle --without-heartbeat "$@" ;;
  beat)
    exec celery -A parka beat -l INFO -s /tmp/beat-schedule "$@" ;;
  agent)
    exec parka-agent run --home "${PARKA_HOME:-/var/lib/parka}/agent" "$@" ;;
  *)
    exec "$role" "$@" ;;
esac
