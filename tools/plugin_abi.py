#!/usr/bin/env python3
"""Holds the headers that the server and the CUDA library share to the number that says which they are.

Both sides pass C++ types to each other, so a library of yesterday's headers must not be loaded: kPluginVersion in
kernels/cuda/plugin.h is raised with every change. tools/plugin_abi.json has the number and a hash over plugin.h and all of
ours that it includes, with comments and spaces left out; `--check` (a test) fails where the text changed and the number did not.

  tools/plugin_abi.py --check
  tools/plugin_abi.py --update    after kPluginVersion was raised: writes tools/plugin_abi.json anew
"""

import argparse
import hashlib
import json
import pathlib
import re
import sys

HEADER = "kernels/cuda/plugin.h"
RECORD = "tools/plugin_abi.json"
VERSION = re.compile(r"\bkPluginVersion\s*=\s*(\d+)")
# A comment, or what the compiler sees: a literal, a word, any other sign. (There are no raw strings in these headers.)
TOKENS = re.compile(r'//[^\n]*|/\*.*?\*/|("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'|\w+|\S)', re.S)


def plain(text):
    """The text without comments, whatever its lines and spaces are."""
    return " ".join(token for token in TOKENS.findall(text) if token)


def headers(root):
    """plugin.h and all of ours that it includes, sorted."""
    found, left = set(), [HEADER]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', (root / name).read_text(), re.M):
            if (root / included).exists():
                left.append(included)
    return sorted(found)


def state(root):
    version = VERSION.search((root / HEADER).read_text())
    if version is None:
        raise SystemExit(f"plugin_abi: {HEADER} has no kPluginVersion")
    digest = hashlib.sha256()
    names = headers(root)
    for name in names:
        text = plain((root / name).read_text())
        digest.update(f"{name}\n{VERSION.sub('kPluginVersion', text)}\n".encode())
    return {"version": int(version.group(1)), "sha256": digest.hexdigest(), "headers": names}


def check(root):
    """None, or the one line that says what is wrong."""
    now, kept = state(root), json.loads((root / RECORD).read_text())
    if now == kept:
        return None
    if now["version"] == kept["version"]:
        return (f"plugin_abi: the headers behind {HEADER} changed, and kPluginVersion is still {now['version']}: raise it there, "
                "then run tools/plugin_abi.py --update")
    return (f"plugin_abi: kPluginVersion is {now['version']}, and {RECORD} is of {kept['version']}: run tools/plugin_abi.py --update")


def update(root):
    now = state(root)
    if (root / RECORD).exists():
        kept = json.loads((root / RECORD).read_text())
        if kept["sha256"] != now["sha256"] and kept["version"] == now["version"]:
            return check(root)
    (root / RECORD).write_text(json.dumps(now, indent=1) + "\n")
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--check", action="store_true")
    which.add_argument("--update", action="store_true")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent, help=argparse.SUPPRESS)
    options = parser.parse_args()
    problem = check(options.root) if options.check else update(options.root)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
