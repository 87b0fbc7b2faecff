#!/usr/bin/env bash
# The demo model's goldens, from tools/golden/demo_cases.json: models/demo/zero as it is served, models/demo as stock
# transformers computes it. To be run again whenever the weights change; CTest checks both (verify_demo_*, verify_demo_zero_*).
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-build/reference-venv/bin/python}

make_golden() {  # UNSEEN_ROWS OUT PICTURES
  "$PYTHON" tools/make_golden.py --model models/demo --cases tools/golden/demo_cases.json --unseen-rows "$1" --out "$2" \
    --keep pixel_values="$3" --keep vision_hidden= --keep projected="$3" --keep logits=one,tall,tiles,system
}

# Logits of several cases: they are also what bf16 computing is measured by. The vision tower is the same in both: its tensors stand in one
make_golden zero models/demo/zero tiles
make_golden attend models/demo ""
du -ch models/demo/golden.safetensors models/demo/zero/golden.safetensors
