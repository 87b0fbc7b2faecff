#!/usr/bin/env python3
"""Measures Tessera and its peers in turn on this machine and writes build/peers/report.{json,txt,html}.

  run.py --quick                     about 6 minutes: demo model and 135M, two rounds, 8 streams, short answers
  run.py                             135M in all rounds, then 1B in as many: prefill 512, decode 128, 1 to 16 streams
  run.py --rounds 2 --minutes 13.5   within a quarter of an hour: what is not reached is a row that says so
  run.py --models llama-1b --lanes Tessera,llama.cpp --rounds 3 --minutes 10
"""

import argparse
import datetime
import json
import os
import random
import subprocess
import sys
import time

import ceilings
import checkpoints
import peers
import places
import report
import side
import system
from measure import Measure

REAL_MODEL = "smollm2-135m"
SLOW_S = 15
TEXT, WORDS = "Once upon a time, in a small village by the sea, there lived a young fisherman who", 32


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", help="comma-separated: " + ", ".join(checkpoints.names()))
    parser.add_argument("--lanes", default="", help="only lanes whose name begins with one of these, comma-separated")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--streams", help="comma-separated numbers of streams; default 1,4,8,16 (quick: 8)")
    parser.add_argument("--no-side", action="store_true", help="leave out pictures, preprocessing and tokenising")
    parser.add_argument("--no-ceilings", action="store_true")
    parser.add_argument("--quiet-below", type=float, default=0.1, help="start when others take less than this share of the CPUs")
    parser.add_argument("--quiet-wait", type=float, help="seconds to wait for that in all; then measure and say so; default 600 (quick: 20)")
    parser.add_argument("--minutes", type=float, help="start nothing new after so many; lanes that take more than 15 s then run in the first round only")
    args = parser.parse_args()
    args.models = args.models.split(",") if args.models else (["135m"] if args.quick else ["135m", "llama-1b"])
    for model in args.models:
        if model not in ["135m", *checkpoints.names()]:
            parser.error(f"--models: there is no {model}; there are " + ", ".join(checkpoints.names()))
    args.rounds = args.rounds or (2 if args.quick else 3)
    args.streams = [int(count) for count in (args.streams or ("8" if args.quick else "1,4,8,16")).split(",")]
    args.quiet_wait = (20.0 if args.quick else 600.0) if args.quiet_wait is None else args.quiet_wait
    return args


def resolve(model):
    """"135m" is SmolLM2 where its package is, else random weights of its shape."""
    if model != "135m":
        return model
    try:
        checkpoints.checkpoint(REAL_MODEL)
        return REAL_MODEL
    except checkpoints.Missing as missing:
        print(f"  smollm2-135m: {missing}; llama-135m (random weights of that shape) instead", flush=True)
        return "llama-135m"


class Bench:
    def __init__(self, args):
        self.words = None
        self.args, self.begin = args, time.monotonic()
        self.draw = random.Random(20260101)
        self.prefill_tokens, self.decode_tokens = 512, 32 if args.quick else 128
        self.limit_s = 15 if args.quick else 40  # of one measurement; one that would take longer is not begun
        self.stream_tokens = 32
        self.quiet_left = args.quiet_wait
        wanted = [name.strip().lower() for name in args.lanes.split(",") if name.strip()]
        chosen = [lane for lane in peers.LANES if not wanted or any(lane.label.lower().startswith(name) for name in wanted)]
        self.models = [resolve(model) for model in args.models]
        self.cells = [(model, lane, {"model": model, "peer": lane.peer, "weights": lane.weights, "bits": lane.bits, "only": list(lane.only),
                                     "samples": {}, "unmeasured": {}})
                      for model in self.models for lane in chosen if not lane.only or model == REAL_MODEL]
        self.result = {"machine": system.describe(), "run": {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "mode": "quick" if args.quick else "full",
            "rounds": args.rounds, "prefill_tokens": self.prefill_tokens, "decode_tokens": self.decode_tokens, "stream_tokens": self.stream_tokens,
            "streams": self.args.streams, "load": ", ".join(f"{value:.1f}" for value in os.getloadavg()) + " at the start (1, 5, 15 minutes)",
            "energy": system.rapl_reason() or "RAPL, package, read around each measurement", "quiet": "", "loud": []},
            "ceilings": {}, "peers": json.loads(places.INSTALLED.read_text()), "side": [],
            "lanes": sorted((cell for _, _, cell in self.cells), key=lambda cell: (self.models.index(cell["model"]), -cell["bits"]))}
        done = subprocess.run([places.BIN / "tessera-server", "--version"], capture_output=True, text=True)
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=places.ROOT, capture_output=True, text=True).stdout.strip()
        self.result["run"]["tessera"] = f"{(done.stdout or '?').splitlines()[0]}, source {commit or '?'}"

    def say(self, line):
        print(line, flush=True)

    def out_of_time(self):
        return self.args.minutes is not None and time.monotonic() - self.begin > 60 * self.args.minutes

    def quiet(self):
        share, waited, calm = system.wait_for_quiet(self.args.quiet_below, max(self.quiet_left, 2.5))
        self.quiet_left = max(0.0, self.quiet_left - max(0.0, waited - 2.0))
        run = self.result["run"]
        if not calm:
            run["loud"].append(round(share, 2))
        run["quiet"] = (f"yes: others took less than {self.args.quiet_below:.0%} of the CPUs before each measurement" if not run["loud"] else
                        f"NO: before {len(run['loud'])} measurements others took up to {max(run['loud']):.0%} of the CPUs")

    def prompt(self, tokens):
        return [self.draw.randrange(1000, 40000) for _ in range(tokens)]

    def lane(self, model, lane, cell):
        self.quiet()
        try:
            running = peers.start(lane, model, max(self.args.streams))
        except peers.Unavailable as unavailable:
            cell["reason"] = report.plain(unavailable, places.ROOT)
            self.say(f"  {model} {lane.label}: {cell['reason']}")
            return
        samples, begin = cell["samples"], time.monotonic()
        try:
            cell["facts"] = running.facts
            if "tier" in running.facts:
                self.result["run"]["tier"] = running.facts["tier"]
            if "agreement" not in samples and "agreement" not in cell["unmeasured"]:
                self.agreement(running, model, lane, cell)
            if not lane.only:
                cell["samples"].setdefault("start", []).append(running.start_seconds)
                Measure(self, running, cell).all()
        except Exception as error:  # whatever a peer does: its row tells it
            cell["reason"] = report.plain(f"{type(error).__name__}: {error}; it said: {running.said()}", places.ROOT)
            self.say(f"  {model} {lane.label}: {cell['reason']}")
        finally:
            running.stop()
        cell["seconds"] = time.monotonic() - begin
        told = ", ".join(f"{metric} {values[-1]:.1f}" for metric, values in samples.items() if not metric.endswith("_raw"))
        self.say(f"  {model} {lane.label} ({cell['seconds']:.0f} s): {told}")

    def agreement(self, running, model, lane, cell):
        """How far a lane's greedy words are those of the reference, in tokens. Random weights say nothing to compare."""
        if model != REAL_MODEL:
            cell["unmeasured"]["agreement"] = f"{model} has random weights"
            return
        if lane == peers.REFERENCE:
            self.words = running.call(op="reference", text=TEXT, tokens=WORDS)
            self.result["run"]["words"] = {"prompt": TEXT, "tokens": len(self.words["ids"])}
        if not self.words:
            cell["unmeasured"]["agreement"] = "the reference lane is not there"
            return
        answer = running.generate(self.words["prompt"], len(self.words["ids"]), TEXT)
        cell["answer"] = answer.text or self.text_of(answer.ids)
        cell["samples"]["agreement"] = [report.agreement(answer.ids, answer.text, self.words)]

    def text_of(self, ids):
        """The reference's own words as far as they are the same; ids that differ have no text here."""
        same = report.agreement(ids, None, self.words)
        return (self.words["beginnings"][same - 1] if same else "") + ("" if same == len(self.words["ids"]) else f" [then ids {ids[same:same + 4]} ...]")

    def run(self):
        if not self.args.no_ceilings:
            self.quiet()
            self.say("ceilings ...")
            self.result["ceilings"] = ceilings.measure(3 if self.args.quick else 5)
        sides = [] if self.args.no_side else [side.Pictures(self.args.rounds, self.args.quick), side.Prepare(self.args.rounds, self.args.quick)]
        for at, model in enumerate(self.models):
            for turn in range(self.args.rounds):
                self.say(f"{model}, round {turn + 1} of {self.args.rounds}")
                for part in sides if at == 0 else []:
                    if not self.out_of_time():
                        self.quiet()
                        part.round(self.say)
                self.round(model, turn, sides)
        self.write(sides)

    def round(self, model, turn, sides):
        for of, lane, cell in self.cells:
            if of != model or "reason" in cell or (lane.only and turn):
                continue
            if turn and self.args.minutes is not None and cell["seconds"] > SLOW_S:
                continue  # its row says n = 1
            if not self.out_of_time():
                self.lane(model, lane, cell)
                self.write(sides)
            elif not cell["samples"]:
                cell["reason"] = f"not reached within --minutes {self.args.minutes:g}"

    def write(self, sides):
        self.result["side"] = [table for part in sides for table in part.tables()]
        report.write(self.result, places.WORK)


def main():
    args = parse()
    bench = Bench(args)
    bench.run()
    print()
    print(report.text(bench.result))
    print(f"written: {', '.join(str((places.WORK / name).relative_to(places.ROOT)) for name in ('report.html', 'report.json', 'report.txt'))}")
    if not any(cell["samples"] for _, _, cell in bench.cells if cell["peer"] == report.OUR_PEER):
        sys.exit("bench-peers: Tessera itself could not be measured")


if __name__ == "__main__":
    main()
