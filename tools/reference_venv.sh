#!/usr/bin/env bash
# Makes build/reference-venv: the Python with torch and transformers that writes goldens, trains the demo model and
# evaluates it. Safe to run again: a finished environment made from the same pins is kept. `.ready` in it says it is complete.
# usage: tools/reference_venv.sh [DIRECTORY]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${1:-$root/build/reference-venv}
pins=$root/tools/requirements-reference.txt

if cmp -s "$pins" "$venv/.ready"; then
  echo "reference_venv: $venv is complete"
  exit 0
fi
pin() { grep -E "^($1)==" "$pins"; }
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

echo "reference_venv: making $venv (about 3 GB of packages at most; several minutes)"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"

if command -v nvcc >/dev/null || [ -d /usr/local/cuda ]; then
  # A CUDA toolkit is there already: leave out the several gigabytes of wheels that would bring a second one.
  echo "reference_venv: torch (CUDA toolkit found: without the toolkit's wheels)"
  pip --no-deps $(pin torch)
  pip --no-deps nvidia-cufile nvidia-cusparselt-cu13 nvidia-nvshmem-cu13 nvidia-nccl-cu13
else
  echo "reference_venv: torch with its dependencies"
  pip $(pin torch)
fi
echo "reference_venv: transformers, gRPC and the rest"
pip filelock typing-extensions sympy networkx jinja2 fsspec setuptools \
  $(pin 'numpy|pillow|transformers|tokenizers|safetensors|grpcio|grpcio-tools|protobuf')

"$venv/bin/python" - <<'PY'
import grpc, numpy, PIL, safetensors, tokenizers, torch, transformers
print(f"reference_venv: torch {torch.__version__}, transformers {transformers.__version__}, "
      f"tokenizers {tokenizers.__version__}, grpcio {grpc.__version__}, pillow {PIL.__version__}")
PY
cp "$pins" "$venv/.ready"
echo "reference_venv: ready"
