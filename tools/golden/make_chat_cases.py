"""Chat goldens: what jinja2, set up as transformers sets it up, makes of our templates and conversations.

    make_chat_cases.py [--random N]

writes, beside the templates in tests/text/data/chat/: for each NAME.jinja a NAME.json of chat cases (docs/fidelity.md),
and snippets.json, a table of small templates with what they print, or that they are an error. `--random N` compares
nothing by itself: it adds N random snippets of tools/golden/chat_random.py to the table. The clock stands at
2024-07-26 09:05:03.
"""

import argparse
import datetime
import json
import re
import signal
from pathlib import Path

from transformers.utils import chat_template_utils

from chat_conversations import CONVERSATIONS, SNIPPET_MESSAGES
from chat_random import Generator
from chat_snippets import snippets

ROOT = Path(__file__).resolve().parents[2]
CHAT = ROOT / "tests/text/data/chat"
BOS, EOS = "<s>", "</s>"
# Addresses that Python prints cannot be compared. Of random slices neither: jinja2 folds constants while compiling, and
# what is an error at run time ("5[1:]") folds to undefined.
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}", re.IGNORECASE)
SLICE = re.compile(r"\[[^\[\]'{}]*:[^\[\]'{}]*\]")


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 9, 5, 3)


chat_template_utils.datetime = FixedClock


class TooSlow(Exception):
    pass


def stop(signum, frame):
    raise TooSlow


def render(source, messages, kwargs, date_string=None):
    """The text, or None where Python raises."""
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    try:
        template = chat_template_utils._cached_compile_jinja_template(source)
        if date_string is not None:
            template.globals["strftime_now"] = lambda _: date_string
        variables = {"tools": None, "documents": None, "add_generation_prompt": False, **kwargs}
        text = str(template.render(messages=messages, bos_token=BOS, eos_token=EOS, **variables))
        text.encode()
        return text
    except Exception:  # noqa: BLE001 - any error is the same answer: an error
        return None
    finally:
        signal.alarm(0)


def outcome(text):
    return {"error": "any"} if text is None else {"rendered": text}


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=None, separators=(",", ":")).replace('},{"name"', '},\n{"name"')
                    .replace('},{"template"', '},\n{"template"') + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=600)
    args = parser.parse_args()
    for path in sorted(CHAT.glob("*.jinja")):
        source = path.read_text()
        cases = []
        for name, messages, kwargs in CONVERSATIONS:
            text = render(source, messages, kwargs, kwargs.get("date_string"))
            cases.append({"name": f"{path.stem}/{name}", "messages": messages, "kwargs": kwargs, **outcome(text)})
        write(path.with_suffix(".json"), {"template": path.name, "bos_token": BOS, "eos_token": EOS, "cases": cases})
        print(f"{path.stem}: {sum('rendered' in c for c in cases)} rendered, {sum('error' in c for c in cases)} errors")
    table = []
    generator = Generator(20240726)
    random_sources = (generator.template() for _ in range(args.random))
    for source in snippets() + [s for s in random_sources if not SLICE.search(s)]:
        text = render(source, SNIPPET_MESSAGES, {})
        if text is not None and ADDRESS.search(text):
            continue
        table.append({"template": source, **outcome(text)})
    write(CHAT / "snippets.json", {"bos_token": BOS, "eos_token": EOS, "messages": SNIPPET_MESSAGES, "cases": table})
    print(f"snippets: {len(table)}, {sum('error' in c for c in table)} of them errors")


if __name__ == "__main__":
    main()
