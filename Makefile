# The commands of Tessera. `make demo` and `make test` work from a clean clone on a bare Debian 12 machine.
.DEFAULT_GOAL := help
SHELL := /bin/bash
JOBS ?= $(shell nproc)
DEVICE ?= auto
REFERENCE_PYTHON := build/reference-venv/bin/python

.PHONY: help
help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: deps
deps:
	@tools/install_deps.sh

build/%/build.ninja: CMakeLists.txt cmake/dependencies.cmake cmake/targets.cmake CMakePresets.json
	@cmake --preset $* > build/$*-configure.log 2>&1 || { cat build/$*-configure.log; exit 1; }

.PHONY: build
build: deps  ## the release build alone, into build/release/bin
	@mkdir -p build
	@$(MAKE) --no-print-directory build/release/build.ninja
	@cmake --build build/release -j $(JOBS) --target product -- --quiet

.PHONY: demo
demo: deps  ## starts a server with the shipped model, asks about a picture, prints the streamed answer
	@mkdir -p build
	@$(MAKE) --no-print-directory build/release/build.ninja
	@cmake --build build/release -j $(JOBS) --target tessera-server tessera tessera_cuda_emulated -- --quiet
	@tools/demo.sh $(DEVICE)

.PHONY: test
test: deps  ## everything that proves it; prints minutes per label
	@tools/run_tests.sh all

.PHONY: test-quick
test-quick: deps  ## release build, unit, model and wire tests; no sanitizers, no fuzzing
	@tools/run_tests.sh quick

.PHONY: reference-venv
reference-venv:
	@tools/reference_venv.sh

.PHONY: test-reference
test-reference: build reference-venv  ## re-makes the goldens with torch and transformers and compares; times both
	@tools/test_reference.sh

.PHONY: eval-demo
eval-demo: build reference-venv  ## accuracy of the demo model on held-out scenes, through the server
	@tools/demo_model/eval_demo.sh

.PHONY: bench
bench: build  ## per op GB/s and GFLOP/s against this machine's ceilings; end-to-end times of the demo model
	@tools/bench.sh

.PHONY: test-gpu
test-gpu: build  ## on a machine with a GPU: kernels, backend, device words and goldens on the real thing, and compute-sanitizer
	@cmake --build build/release -j $(JOBS) --target cuda_gpu_tests -- --quiet || { echo "test-gpu: no CUDA toolkit" >&2; exit 1; }
	@tests/cuda/nvidia/run.sh build/release

.PHONY: bench-gpu
bench-gpu: build  ## on a machine with a GPU: TFLOP/s, GB/s and per cent of peak of every kernel, beside cuBLASLt
	@cmake --build build/release -j $(JOBS) --target tessera-bench-gpu -- --quiet || { echo "bench-gpu: no CUDA toolkit" >&2; exit 1; }
	@build/release/bin/tessera-bench-gpu --json build/bench-gpu.json

.PHONY: cuda-limits
cuda-limits:  ## nvcc, no GPU needed: registers, spills, resident blocks of every kernel against the checked table
	@tools/cuda_limits.py

.PHONY: test-mutations
test-mutations: build  ## defects put into the CUDA backend one at a time: each must fail a test on the emulated GPU
	@cmake --build build/release -j $(JOBS) --target cuda_rows_test cuda_attention_test cuda_backend_test cuda_host_ops_test -- --quiet
	@tools/mutate_kernels --build build/release --report build/mutants.md

.PHONY: bench-cuda-model
bench-cuda-model:  ## floors of Llama-3.2-11B-Vision on A100, H100, B200 from what the emulator counted
	@tools/cuda_roofline.py --out docs/performance-cuda.md

.PHONY: check-11b
check-11b: build  ## an 11B-shaped Mllama in int4: memory, first token of 4 tiles, decode against the read rate (22 GB of disk)
	@python3 -B tools/check_11b.py $(CHECK_ARGS)

.PHONY: bench-peers
bench-peers: build  ## Tessera and its peers in turn, one report; PEERS_ARGS=--quick takes 6 minutes once all is installed
	@python3 -B bench/peers/install.py
	@build/peers-venv/bin/python -B bench/peers/run.py $(PEERS_ARGS)

.PHONY: format
format:  ## clang-format over our own sources
	@git ls-files '*.cc' '*.h' | xargs clang-format -i

.PHONY: lint
lint: deps  ## clang-format and clang-tidy over what changed since LINT_BASE (default: main's parent)
	@tools/lint.sh

.PHONY: clean
clean:  ## removes build/
	@rm -rf build
