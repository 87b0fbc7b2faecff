#!/usr/bin/env bash
# Times of the demo model through the server: the first question about a picture, the second one, and decoding.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=build/release/bin
LOG=$(mktemp)
"$BIN/tessera-server" --model models/demo --listen 127.0.0.1:0 --no-request-log 2> "$LOG" &
SERVER=$!
trap 'kill $SERVER 2> /dev/null || true; wait $SERVER 2> /dev/null || true; rm -f "$LOG"' EXIT
ADDRESS=""
for _ in $(seq 300); do
  ADDRESS=$(sed -nE 's/.*listening on ([0-9.]+:[0-9]+).*/\1/p' "$LOG" | head -n 1)
  [ -n "$ADDRESS" ] && break
  sleep 0.1
done
[ -n "$ADDRESS" ] || { cat "$LOG" >&2; exit 1; }
"$BIN/tessera" --server "$ADDRESS" health --wait 60 > /dev/null
grep -E 'device' "$LOG"
python3 - "$BIN/tessera" "$ADDRESS" <<'PY'
import glob, json, statistics, subprocess, sys
binary, address = sys.argv[1:]
def ask(picture, tokens):
    out = subprocess.run([binary, "--server", address, "generate", "--image", picture, "--prompt", "Describe the picture.", "--json",
                          "--temperature", "0", "--ignore-eos", "--max-tokens", str(tokens)], capture_output=True, check=True)
    return json.loads(out.stdout)["timings"]
new, again, decode = [], [], []
for picture in sorted(glob.glob("models/demo/pictures/*.png")):
    timings = ask(picture, 65)
    new.append(timings["first_token"] * 1e3)
    decode.append(64 / timings["decode"])
    again.append(ask(picture, 2)["first_token"] * 1e3)
for name, values, unit in (("first token, new picture", new, "ms"), ("first token, seen picture", again, "ms"), ("decode, one stream", decode, "tokens/s")):
    print(f"{name:28} median {statistics.median(values):8.1f} {unit} (min {min(values):.1f}, max {max(values):.1f}, n = {len(values)})")
PY
