#!/usr/bin/env bash
# Accuracy of the demo model per question type, asked through a Tessera server that this script starts and stops.
# usage: tools/demo_model/eval_demo.sh [arguments of evaluate.py, e.g. --number 100]
# Environment: TESSERA_BIN (directory of tessera-server), EVAL_LISTEN (address), EVAL_SERVER_FLAGS.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${TESSERA_BIN:-$root/build/release/bin}
listen=${EVAL_LISTEN:-127.0.0.1:8961}
python=$root/build/reference-venv/bin/python
log=$root/build/eval-demo-server.log

[ -x "$bin/tessera-server" ] || { echo "eval-demo: $bin/tessera-server is not there: run 'make build'" >&2; exit 1; }
[ -x "$python" ] || "$root/tools/reference_venv.sh"
if ! fc-list 2>/dev/null | grep -qi NotoColorEmoji && [ ! -e /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ]; then
  echo "eval-demo: the pictures need the Debian packages fonts-noto-color-emoji and fonts-dejavu-core" >&2
  exit 1
fi

# shellcheck disable=SC2086
"$bin/tessera-server" --model "$root/models/demo" --listen "$listen" ${EVAL_SERVER_FLAGS:-} >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true' EXIT
status=0
timeout 3000 "$python" "$root/tools/demo_model/evaluate.py" --driver grpc --server "$listen" "$@" || status=$?
kill -0 "$server" 2>/dev/null || { echo "eval-demo: the server ended early; its log: $log" >&2; tail -5 "$log" >&2; }
exit "$status"
