"""What is measured of one lane while it runs: one answer after the other, then several at a time."""

import time

import ceilings
import report
import system

PROMPT_TOKENS = 16


class Measure:
    """`bench` gives prompts and sizes, `cell` takes samples, and reasons for what was left out."""

    def __init__(self, bench, running, cell):
        self.bench, self.running, self.cell = bench, running, cell

    def add(self, metric, value):
        self.cell["samples"].setdefault(metric, []).append(value)

    def fits(self, metric, seconds, why):
        """Whether a measurement that would take so long is begun; else its row says so."""
        limit = self.bench.limit_s
        if seconds <= limit:
            return True
        self.cell["unmeasured"][metric] = f"not begun: {why} it would take {seconds:.0f} s, the limit of a measurement is {limit} s"
        return False

    def all(self):
        first = self.running.generate(self.bench.prompt(PROMPT_TOKENS), 4)  # first touches of memory, of code, of caches
        first = self.running.generate(self.bench.prompt(PROMPT_TOKENS), 4)
        decode = (first.tokens - 1) / max(first.last - first.first, 1e-6)
        prefill = PROMPT_TOKENS / first.first
        self.prefill(prefill)
        self.decode(decode)
        self.streams(decode)
        if self.running.peak_memory():
            self.add("peak_memory", self.running.peak_memory() / 2**20)

    def prefill(self, rate):
        wanted = self.bench.prefill_tokens
        if not self.fits("prefill", wanted / rate, f"at {rate:.1f} tok/s, its rate over {PROMPT_TOKENS} tokens,"):
            return
        with system.Window(self.running.pid) as window:
            answer = self.running.generate(self.bench.prompt(wanted), 1)
        self.add("prefill", wanted / answer.first)
        self.add("prompt_tokens", wanted if answer.prompt_tokens is None else answer.prompt_tokens)
        if answer.cached_tokens is not None:
            self.add("cached_tokens", answer.cached_tokens)
        self.add("foreign", 100 * window.foreign_share)

    def decode(self, rate):
        wanted = self.bench.decode_tokens
        if not self.fits("decode", wanted / rate, f"at {rate:.1f} tok/s, the rate of its first answer,"):
            return
        with system.Window(self.running.pid) as window:
            answer = self.running.generate(self.bench.prompt(PROMPT_TOKENS), wanted)
        rate = (answer.tokens - 1) / (answer.last - answer.first)
        self.add("decode", rate)
        self.add("answer_tokens", answer.tokens)
        self.add("cores", window.measured_cpu / window.wall)
        self.add("foreign", 100 * window.foreign_share)
        self.add("cpu_ms_per_token", 1e3 * window.measured_cpu / answer.tokens)
        if window.joules is not None:
            self.add("joules_per_token", window.joules / answer.tokens)
        reading = self.bench.result["ceilings"].get("values", {}).get(ceilings.READING)
        if reading and self.running.facts.get("weight_bytes"):
            self.add("bandwidth_share", 100 * rate * self.running.facts["weight_bytes"] / (reading["value"] * 1e9))

    def streams(self, rate):
        """Each count in turn; what one count cost says whether the next, with as many tokens a stream, is begun."""
        tokens, seconds, why, before = self.bench.stream_tokens, self.bench.stream_tokens / rate, f"at {rate:.1f} tok/s, the rate of its first answer,", None
        for count in sorted(self.bench.args.streams):
            metric = f"streams_{count}"
            if before:
                seconds, why = before[1] * count / before[0], f"{before[0]} streams took {before[1]:.0f} s; without gain from more"
            if before and before[1] <= self.bench.limit_s / 2:
                seconds = 0.0  # even twice as long is within the limit
            if not self.fits(metric, seconds, why):
                self.cell["unmeasured"][metric + "_raw"] = self.cell["unmeasured"][metric]
                continue
            try:
                before = count, self.streams_of(count, tokens)
            except Exception as error:  # a peer that takes one request only says so itself
                if count == 1 or self.running.process.poll() is not None:
                    raise
                reason = str(error) if type(error).__name__ == "Unavailable" else f"{type(error).__name__}: {error}"
                self.cell["unmeasured"].update({metric: reason, metric + "_raw": reason})

    def streams_of(self, count, tokens):
        busy = getattr(self.running, "busy_seconds", None)
        begin, begun = time.perf_counter(), busy() if busy else None
        prompts = [self.bench.prompt(PROMPT_TOKENS) for _ in range(count)]
        with system.Window(self.running.pid) as window:
            made, wall = self.running.together(prompts, tokens)
        if made != count * tokens:
            raise RuntimeError(f"{count} streams of {tokens} tokens gave {made} tokens")
        if busy:
            self.add(f"busy_{count}", 100 * (busy() - begun) / (time.perf_counter() - begin))
        self.add(f"streams_{count}", report.without_generator(made, wall, window.generator_cpu, system.CPUS))
        self.add(f"streams_{count}_raw", made / wall)
        self.add(f"generator_{count}", 100 * window.generator_cpu / (wall * system.CPUS))
        self.add("foreign", 100 * window.foreign_share)
        return wall
