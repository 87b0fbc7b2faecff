#!/usr/bin/env bash
# Starts the server with the shipped model, asks about two pictures, prints the streamed answers, stops the server.
#   tools/demo.sh [DEVICE]
set -euo pipefail
cd "$(dirname "$0")/.."
DEVICE=${1:-auto}
BIN=build/release/bin
PICTURES=models/demo/pictures

LOG=$(mktemp)
"$BIN/tessera-server" --model models/demo --served-model-name demo --device "$DEVICE" --listen 127.0.0.1:0 2> "$LOG" &
SERVER=$!
trap 'kill $SERVER 2> /dev/null || true; wait $SERVER 2> /dev/null || true; rm -f "$LOG"' EXIT

ADDRESS=""
for _ in $(seq 300); do
  ADDRESS=$(sed -nE 's/.*listening on ([0-9.]+:[0-9]+).*/\1/p' "$LOG" | head -n 1)
  [ -n "$ADDRESS" ] && break
  kill -0 $SERVER 2> /dev/null || { echo "the server ended:" >&2; cat "$LOG" >&2; exit 1; }
  sleep 0.1
done
[ -n "$ADDRESS" ] || { echo "the server did not start within 30 s:" >&2; cat "$LOG" >&2; exit 1; }
"$BIN/tessera" --server "$ADDRESS" health --wait 60 > /dev/null
sed -nE '/^[^{]/p' "$LOG"
echo

# ask PICTURE QUESTION RIGHT_ANSWER
wrong=0
exec 3>&1
ask() {
  echo "$ tessera generate --image $PICTURES/$1 --prompt '$2' --temperature 0"
  local answer
  answer=$("$BIN/tessera" --server "$ADDRESS" generate --image "$PICTURES/$1" --prompt "$2" --temperature 0 --max-tokens 64 | tee >(cat >&3))
  [ "$answer" = "$3" ] || { echo "  (expected: $3)"; wrong=1; }
  echo
}
while IFS=$'\t' read -r picture question answer; do
  ask "$picture" "$question" "$answer"
done < <(python3 -c '
import json
for row in json.load(open("models/demo/pictures/questions.json"))[:3]:
    print(row["picture"], row["question"], row["answer"], sep="\t")')
exit $wrong
