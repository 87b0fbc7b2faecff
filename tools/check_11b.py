#!/usr/bin/env python3
"""A checkpoint in the shape of Llama-3.2-11B-Vision, random weights, served on the CPU in int4: does it load and answer
about a picture of four tiles in 16 GiB, and how near is decoding to what the memory can read?

  check_11b.py                 needs 22 GB of disk for the model, 8 GB more for the weight cache, 12 GB of free memory and,
                               on 2 cores, about 10 minutes; everything is deleted at the end
  check_11b.py --keep          leaves the model in build/bench-models/11b for the next time
  check_11b.py --no-cache      no weight cache, no second start

Plain Python. Exit code 0: peak memory is below the limit, and at most 10 % above weights and pools, and decoding reaches 80 %
of the bound; 1: one of these fails, or the server does, or the machine was too busy to say; 2: it has not what this needs.

The bound is the bytes that a token streams (matrices of text layers and head, keys and values of picture and text) at the rate
at which tessera-bench-ops reads memory, measured right before and right after with the server idle. Decoding is measured
several times and the best counts. What else the machine did is printed, not subtracted; where somebody took more than 10 % of
the processors before each reading of the bound or each decode, there is no verdict.
"""
import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_random_model  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GIB = 1 << 30
TILE_TOKENS = 1601
QUIET = 0.1


def fail(code, message):
    print(f"check-11b: {message}", file=sys.stderr)
    sys.exit(code)


def memory_available():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))


def write_picture(path, size=1120):
    """A PNG of four tiles of 560: stripes that deflate well."""
    rows = b"".join(b"\0" + bytes((x * y // 64 + x) % 256 for x in range(0, 3 * size)) for y in range(size))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


def streamed_bytes(kv_element, text_tokens):
    """What one token reads: int4 in groups of 32 takes 0.625 bytes a weight, the head's int8 1.0625."""
    shape = make_random_model.SHAPES["mllama-11b"]
    c, ff, q, kv = shape["hidden"], shape["ff"], shape["heads"] * shape["head_dim"], shape["kv"] * shape["head_dim"]
    cross, layers = len(shape["cross"]), shape["layers"]
    numbers = layers * (2 * c * q + 3 * c * ff) + (layers - cross) * 2 * c * kv
    weights = numbers * 0.625 + shape["vocab"] * c * 1.0625
    cached = 2 * kv * kv_element * (cross * 4 * TILE_TOKENS + (layers - cross) * text_tokens)
    return weights, cached


class Server:
    def __init__(self, binaries, flags, log):
        self.began = time.monotonic()
        self.log = log
        with open(log, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen([os.path.join(binaries, "tessera-server"), *flags], stderr=file, stdout=file)
        self.seconds = None
        while self.seconds is None:
            time.sleep(0.2)
            if self.process.poll() is not None:
                fail(1, "the server ended: " + self.text().strip().splitlines()[-1])
            if "\nserving " in self.text():
                self.seconds = time.monotonic() - self.began
        self.address = re.search(r"listening on (\S+)", self.text())[1]

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def peak(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def row_bytes(table, row):
    number, unit = re.search(rf"^  {row} .*?([\d.]+) (KiB|MiB|GiB)", table, re.MULTILINE).groups()
    return float(number) * {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": GIB}[unit]


def ask(binaries, server, picture, tokens):
    command = [os.path.join(binaries, "tessera"), "generate", "--server", server.address, "--image", picture, "--prompt",
               "What is in the picture?", "--max-tokens", str(tokens), "--temperature", "0", "--ignore-eos", "--timeout", "3600",
               "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        fail(1, "no answer: " + done.stderr.strip())
    return json.loads(done.stdout)


def read_rate(binaries):
    """GB/s, and what was read."""
    command = [os.path.join(binaries, "tessera-bench-ops"), "--quick", "--filter", "MatMul bf16 R=1", "--repetitions", "9"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate, size = re.search(r"([\d.]+) GB/s of reading ([\d.]+) GB", done.stdout).groups()
    return float(rate), float(size)


def others(seconds=2.0):
    """Share of the processors that somebody takes while the server has nothing to do."""
    def times():
        with open("/proc/stat", encoding="ascii") as file:
            numbers = [int(n) for n in file.readline().split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]
    all_before, idle_before = times()
    time.sleep(seconds)
    all_after, idle_after = times()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)


def wait_for_quiet(seconds):
    """The share that others take in the end."""
    until = time.monotonic() + seconds
    while (state := others()) > QUIET and time.monotonic() < until:
        pass
    return state


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/release/bin"))
    parser.add_argument("--model", default=os.path.join(ROOT, "build/bench-models/11b"))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--no-cache", action="store_true")
    parser.add_argument("--limit-gib", type=float, default=16)
    parser.add_argument("--tokens", type=int, default=24, help="of an answer")
    parser.add_argument("--times", type=int, default=5, help="how often decoding is measured")
    parser.add_argument("--quiet-wait", type=float, default=60, help="seconds to wait for a quiet machine before each")
    args = parser.parse_args()

    made = not os.path.exists(os.path.join(args.model, "model.safetensors.index.json"))
    disk = shutil.disk_usage(ROOT).free
    need = (22e9 if made else 0) + (0 if args.no_cache else 8e9)
    if disk < need:
        fail(2, f"needs {need / 1e9:.0f} GB of disk, there are {disk / 1e9:.0f}")
    if memory_available() < 12 * GIB:
        fail(2, f"needs 12 GiB of free memory, there are {memory_available() / GIB:.1f}")
    work = tempfile.mkdtemp(prefix="check-11b-", dir=os.path.join(ROOT, "build"))
    rows = []
    good = True

    def row(name, value, fine=None):
        nonlocal good
        good = good and fine is not False
        rows.append((name, value, "" if fine is None else "yes" if fine else "NO"))
        print(f"{name}: {value}" + ("" if fine is None else f"  [{rows[-1][2]}]"), flush=True)

    server = None
    try:
        if made:
            began = time.monotonic()
            os.makedirs(args.model, exist_ok=True)
            make_random_model.write_shape("mllama-11b", args.model, 1, True)
            row("model written", f"{time.monotonic() - began:.0f} s")
        picture = os.path.join(work, "four-tiles.png")
        write_picture(picture)
        flags = ["--model", args.model, "--weights", "int4", "--kv-dtype", "bf16", "--kv-memory", "1GiB", "--device", "cpu",
                 "--listen", "127.0.0.1:0", "--no-request-log"]
        cache = [] if args.no_cache else ["--cache-dir", work]
        server = Server(args.bin, flags + cache, os.path.join(work, "log"))
        row("first start" + (", writes the cache" if cache else ""), f"{server.seconds:.1f} s")
        first = ask(args.bin, server, picture, args.tokens)
        timings = first["timings"]
        row("first token, new picture of 4 tiles",
            f"{timings['first_token']:.1f} s (vision tower {timings['vision_encode']:.1f}, keys and values "
            f"{timings['cross_kv']:.1f}, prompt {timings['prefill']:.2f})")
        reading = [wait_for_quiet(args.quiet_wait)]
        rate_before, size = read_rate(args.bin)
        rates, states = [], []
        for _ in range(args.times):
            state = wait_for_quiet(args.quiet_wait)
            again = ask(args.bin, server, picture, args.tokens)
            if again["usage"]["images_encoded"]:
                fail(1, "the picture was encoded again")
            rates.append((again["usage"]["generated_tokens"] - 1) / again["timings"]["decode"])
            states.append(state)
        reading.append(wait_for_quiet(args.quiet_wait))
        rate_after, _ = read_rate(args.bin)
        row("first token, the same picture again", f"{again['timings']['first_token'] * 1e3:.0f} ms")
        weights, cached = streamed_bytes(2, first["usage"]["prompt_tokens"] + args.tokens // 2)
        read = max(rate_before, rate_after)
        bound = read * 1e9 / (weights + cached)
        row("a token streams", f"{weights / 1e9:.2f} GB of weights, {cached / 1e9:.2f} GB of keys and values")
        row("memory reads", f"{rate_before:.1f} GB/s before, {rate_after:.1f} after (over {size} GB), others at "
            + " and ".join(f"{100 * s:.0f}" for s in reading) + " % just before")
        row("decode", "tokens/s " + ", ".join(f"{r:.2f}" for r in rates)
            + "; others took " + ", ".join(f"{100 * s:.0f}" for s in states) + " % of the processors just before")
        quiet = min(reading) <= QUIET and min(states) <= QUIET
        row("best decode against the bound", f"{max(rates):.2f} of {bound:.2f} tokens/s, {100 * max(rates) / bound:.0f} %"
            + ("" if quiet else ": the machine was busy, no verdict"), quiet and max(rates) >= 0.8 * bound)
        table, peak = server.text(), server.peak()
        parts = {name: row_bytes(table, name) for name in ("weights", "text pages", "picture pages", "workspace")}
        row("start table", ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items()) + " GiB")
        held = parts["weights"] + parts["text pages"] + parts["picture pages"]
        row("peak resident (VmHWM)", f"{peak / GIB:.2f} GiB, limit {args.limit_gib:g}", peak <= args.limit_gib * GIB)
        row("of weights and pools", f"{100 * peak / held:.0f} %, at most 110", peak <= 1.1 * held)
        server.stop()
        if cache:
            server = Server(args.bin, flags + cache, os.path.join(work, "log"))
            row("second start, from the cache", f"{server.seconds:.1f} s, peak {server.peak() / GIB:.2f} GiB",
                server.peak() <= args.limit_gib * GIB)
            server.stop()
        server = None
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(work)
        if made and not args.keep:
            shutil.rmtree(args.model)
    print("\n| | | reached |\n|---|---|---|")
    for name, value, mark in rows:
        print(f"| {name} | {value} | {mark} |")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
