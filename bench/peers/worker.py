"""What the workers share: one line of JSON in, one out. Whatever a library prints to stdout goes to stderr."""

import json
import os
import sys
import time


class Clock:
    """Times of tokens since the request began."""

    def __init__(self):
        self.begin = time.perf_counter()
        self.first = self.last = None
        self.tokens = 0

    def token(self, count=1):
        self.last = time.perf_counter() - self.begin
        self.first = self.last if self.first is None else self.first
        self.tokens += count

    def answer(self):
        return {"first": self.first, "last": self.last, "tokens": self.tokens}


def serve(load):
    """`load()` gives (facts, handlers); handlers are {op: function of the request's other fields}."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value):
        lines.write(json.dumps(value) + "\n")
        lines.flush()

    try:
        facts, handlers = load()
    except Exception as error:  # any library's: it becomes the reason in the report
        say({"error": f"{type(error).__name__}: {str(error)[-300:]}"})
        return
    say(facts)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say(handlers[request.pop("op")](**request))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {str(error)[-300:]}"})
