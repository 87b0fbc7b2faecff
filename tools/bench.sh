#!/usr/bin/env bash
# Per op GB/s and GFLOP/s against this machine's ceilings, measured in the same run, on the shapes of a 1B Llama; then the
# demo model end to end through the server.
set -euo pipefail
cd "$(dirname "$0")/.."
build/release/bin/tessera-bench-ops "$@"
echo
tools/bench_demo.sh
