#!/usr/bin/env bash
# Runs the test suite and prints minutes per label, with a warning where a label is over its budget.
#   tools/run_tests.sh all|quick
set -uo pipefail
cd "$(dirname "$0")/.."
MODE=${1:-all}
JOBS=${JOBS:-$(nproc)}
mkdir -p build

declare -A BUDGET=([lint]=3 [build]=14 [unit]=3 [model]=3 [wire]=4 [demo]=1 [cuda]=8 [mutants]=8 [limits]=8 [sanitizers]=25 [fuzz]=3)
LABELS=() MINUTES=() STATES=()
PASSED=0 FAILED=0
THREADED="engine_test media_test ops_test"

# stage LABEL COMMAND... : runs it, times it, remembers how it ended.
stage() {
  local label=$1 begin end state=ok
  shift
  echo
  echo "== $label: $*"
  begin=$(date +%s%N)
  "$@" || state=FAILED
  end=$(date +%s%N)
  LABELS+=("$label") STATES+=("$state")
  MINUTES+=("$(awk -v d=$((end - begin)) 'BEGIN{printf "%.1f", d / 60e9}')")
}

build() {  # PRESET [TARGET...]
  local preset=$1
  shift
  cmake --preset "$preset" > "build/$preset-configure.log" 2>&1 || { cat "build/$preset-configure.log"; return 1; }
  cmake --build "build/$preset" -j "$JOBS" ${1:+--target "$@"} -- --quiet
}

# run_ctest BUILD_DIR ARGS... : adds to the totals.
run_ctest() {
  local dir=$1 log rc
  shift
  log=$(mktemp)
  ctest --test-dir "$dir" --output-on-failure --timeout 900 "$@" | tee "$log"
  rc=${PIPESTATUS[0]}
  local failed total
  total=$(grep -cE '^ *[0-9]+/[0-9]+ Test' "$log")
  failed=$(grep -cE '^ *[0-9]+/[0-9]+ Test.*(\*\*\*|Failed|Timeout|Not Run)' "$log")
  PASSED=$((PASSED + total - failed)) FAILED=$((FAILED + failed))
  rm -f "$log"
  [ "$total" -gt 0 ] || { echo "no test ran"; return 1; }
  return "$rc"
}

step() {  # a check of one command, counted as one test
  if "$@"; then PASSED=$((PASSED + 1)); else FAILED=$((FAILED + 1)); return 1; fi
}

sanitizers() {
  local rc=0
  echo "-- AddressSanitizer and UndefinedBehaviorSanitizer over everything"
  # Growth of time says nothing in an instrumented build
  build asan && run_ctest build/asan -LE 'fuzz|cuda' -E 'growth|real_model_test' || rc=1
  # The demo model once: in bf16 it takes minutes more and no other path of memory
  GTEST_FILTER='-*demo*_bf16' run_ctest build/asan -R '^real_model_test$' || rc=1
  echo "-- and over the emulated GPU: the emulator, and what it runs in seconds"
  run_ctest build/asan -R '^cuda_(wrapper|detector|backend|bad_device)_test$' || rc=1
  GTEST_FILTER='Rows.*:EmbeddingInt.*:MatMul*.Reads*:SampleKernel.HasNoRaces*:Rope*:CopyPages*:Invariance.CrossAttentionRows:Invariance.VisionRows' \
    run_ctest build/asan -R '^cuda_(rows|attention)_test$' || rc=1
  echo "-- ThreadSanitizer over what has threads below the wire (Debian's gRPC is not instrumented)"
  build tsan $THREADED real_model_test && run_ctest build/tsan -R "^(${THREADED// /|})\$" || rc=1
  # Two of its models: the whole takes ten times longer than it is worth here
  GTEST_FILTER='*llama_fp32:*odd_zero_fp32' run_ctest build/tsan -R '^real_model_test$' || rc=1
  return $rc
}

# Where there is a CUDA toolkit its own compiler must build the library, as `make build` does.
limits() { step tools/cuda_limits.py && { [ ! -d build/release/kernels/cuda/nvidia ] || step build release product; }; }

# Defects put into the CUDA backend: a third of them, drawn by the commit (all: make test-mutations)
mutants() {
  local draw need
  for need in compile_commands.json bin/cuda_{rows,attention,backend,host_ops}_test; do
    [ -e "build/release/$need" ] || { echo "mutants: SKIPPED: build/release has no $need"; return 0; }
  done
  for need in ninja prlimit; do
    command -v $need > /dev/null || { echo "mutants: SKIPPED: there is no $need"; return 0; }
  done
  draw=$(git rev-parse HEAD 2> /dev/null || date +%F)
  step tools/mutate_kernels --build build/release --third "$draw" --minutes 7.5 --report build/mutants.md
}

fuzz() { run_ctest build/asan -L fuzz; }

stage build build release
[ "$MODE" = all ] && stage lint step tools/lint.sh
stage unit run_ctest build/release -L unit
stage model run_ctest build/release -L model
stage wire run_ctest build/release -L wire
stage cuda run_ctest build/release -L cuda
if [ "$MODE" = all ]; then
  stage mutants mutants
  stage demo step tools/demo.sh auto
  stage sanitizers sanitizers
  stage fuzz fuzz
  stage limits limits
fi

echo
echo "label         minutes  budget  result"
rc=0 sum=0
for i in "${!LABELS[@]}"; do
  label=${LABELS[$i]} note=""
  awk -v m="${MINUTES[$i]}" -v b="${BUDGET[$label]}" 'BEGIN{exit !(m > b)}' && note="  (over its budget)"
  printf '%-13s %7s %7s  %s%s\n' "$label" "${MINUTES[$i]}" "${BUDGET[$label]}" "${STATES[$i]}" "$note"
  [ "${STATES[$i]}" = ok ] || rc=1
  sum=$(awk -v s="$sum" -v m="${MINUTES[$i]}" 'BEGIN{printf "%.1f", s + m}')
done
printf '%-13s %7s\n\n' all "$sum"
echo "$PASSED passed, $FAILED failed"
exit $rc
