#!/usr/bin/env bash
# Re-makes every golden of a model with torch and transformers and compares it with the one in the repository; checks the
# demo model against stock transformers through tessera-verify; then prints both engines' times side by side.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=build/reference-venv/bin/python
VERIFY=build/release/bin/tessera-verify
failed=0

while read -r cases; do
  dir=$(dirname "$cases")
  "$PYTHON" tools/make_golden.py --check "$dir" || failed=1
done < <(find tests/model/data -name cases.json | sort)

# A fresh golden of the demo model, with rows that see no picture as Meta's code has them
golden=build/reference-demo-golden
mkdir -p "$golden"
"$PYTHON" - "$golden" <<'PY'
import json, os, sys
out = sys.argv[1]
pictures = os.path.relpath("models/demo/pictures", out)
rows = json.load(open("models/demo/pictures/questions.json"))[:6]
cases = [{"id": chr(97 + i), "kind": "chat", "what": row["type"], "images": [f"{pictures}/{row['picture']}"],
          "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row["question"]}]}]}
         for i, row in enumerate(rows)]
json.dump({"model": "demo", "family": "mllama", "weights_dtype": "bfloat16", "may_be_refused": None, "max_new_tokens": 16,
           "ignore_eos": True, "add_special_tokens": False, "date_string": "26 Jul 2024", "cases": cases},
          open(os.path.join(out, "cases.json"), "w"), indent=1)
PY
"$PYTHON" tools/make_golden.py --model models/demo --cases "$golden/cases.json" --out "$golden" --unseen-rows zero
for activations in fp32 bf16; do
  echo "tessera-verify --model models/demo --activations $activations"
  "$VERIFY" --model models/demo --golden "$golden" --activations $activations | tail -n 1 || failed=1
done

"$PYTHON" tools/compare_transformers.py || failed=1
exit $failed
