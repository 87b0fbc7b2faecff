#!/usr/bin/env bash
# clang-format over all our sources, and clang-tidy over those changed since LINT_BASE (default: the parent of HEAD) that a
# build directory knows how to compile. Says what it skips.
set -uo pipefail
cd "$(dirname "$0")/.."
rc=0

FORMAT=$(command -v clang-format-14 || command -v clang-format || true)
if [ -n "$FORMAT" ] && "$FORMAT" --version | grep -q 'version 14'; then
  git ls-files '*.cc' '*.h' | xargs "$FORMAT" --dry-run -Werror > build/format.log 2>&1 || {
    echo "lint: these files are not formatted (make format):"
    grep -oE '^[^:]+\.(cc|h):' build/format.log | sort | uniq -c | sort -rn | head -n 20
    rc=1
  }
else
  echo "lint: clang-format 14 is not installed: formatting not checked"
fi

TIDY=$(command -v clang-tidy-14 || command -v clang-tidy || true)
DATABASE=build/release/compile_commands.json
BASE=${LINT_BASE:-HEAD~1}
if [ -z "$TIDY" ]; then
  echo "lint: clang-tidy is not installed: not run"
elif [ ! -f $DATABASE ]; then
  echo "lint: $DATABASE is missing (make build): clang-tidy not run"
elif ! git rev-parse -q --verify "$BASE" > /dev/null; then
  echo "lint: no commit $BASE: clang-tidy not run"
else
  mapfile -t changed < <(git diff --name-only --diff-filter=d "$BASE" -- '*.cc' | grep -vE '^(kernels/cuda|tests)/' | head -n "${LINT_MOST:-12}")
  if [ ${#changed[@]} -gt 0 ]; then
    printf '%s\n' "${changed[@]}" | xargs -P "$(nproc)" -n 1 "$TIDY" -p build/release --quiet --extra-arg=-Wno-unknown-warning-option 2> /dev/null || rc=1
  fi
fi
[ $rc -eq 0 ] && echo "lint: ok"
exit $rc
