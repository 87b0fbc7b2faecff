#!/usr/bin/env bash
# make test-gpu: the suites of tests/cuda on real hardware. Exit code 0: all passed; 1: a test failed; 3: there is no device, which
# one line says.
#   tests/cuda/nvidia/run.sh BUILD_DIR
set -uo pipefail
cd "$(dirname "$0")/../../.."
BUILD=$1
probe=$("$BUILD/bin/cuda_wrapper_gpu_test" --gtest_list_tests 2>&1)
if [ $? -eq 77 ]; then
  echo "test-gpu: all is built; ${probe##*$'\n'}" >&2
  exit 3
fi
if ! grep -q '_memcheck' <(ctest --test-dir "$BUILD" -N -L gpu); then
  echo "test-gpu: compute-sanitizer was not found: the tests run without it" >&2
fi
ctest --test-dir "$BUILD" --output-on-failure -L gpu || exit 1
git diff --quiet -- tests/cuda/golden_wrapper.json && [ -z "$(git ls-files -o -- tests/cuda/golden_wrapper.json)" ] ||
  echo "test-gpu: tests/cuda/golden_wrapper.json was written: commit it, and the emulated GPU is held to it"
