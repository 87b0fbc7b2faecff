#!/usr/bin/env bash
# Per op GB/s and GFLOP/s against this machine's ceilings, measured in the same run, on the shapes of a 1B Llama; then the
# demo model end to end through the server.
set -euo pipefail
cd "$(dirname "$0")/.."
build/release/bin/tessera-bench-ops "$@"
echo
# What the engine costs beside the model: a real shape with random weights, made once.
SHAPE=build/bench-models/llama-135m
if [ ! -f "$SHAPE/model.safetensors" ]; then
  mkdir -p build/bench-models
  rm -rf "$SHAPE.part"
  python3 tools/make_random_model.py --shape llama-135m --out "$SHAPE.part"
  mv "$SHAPE.part" "$SHAPE"
fi
build/release/bin/tessera-bench-engine --model "$SHAPE"
echo
tools/bench_demo.sh
