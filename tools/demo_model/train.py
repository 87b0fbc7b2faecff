"""Trains the demo model: phase a (vision alone, dense scenes), then phase b (everything).

    train.py a --minutes 12 --run build/demo_model/run
    train.py b --minutes 110 --run build/demo_model/run

Each phase runs for --minutes, or for --steps exactly: then the same seed, torch version and CPU tier give the same bits, however many
processes there are and whatever else runs. Started again after an interruption it goes on from the last checkpoint. The rate is warmed
up, kept, and in the last --decay of the phase brought down to nothing: a run that ends early is far worse than a shorter one that ends.
"""

import argparse
import datetime
import json
import os
import pathlib
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
import torch.multiprocessing as mp  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

import losses  # noqa: E402
import network  # noqa: E402
import optimizer  # noqa: E402
import packing  # noqa: E402
import sprites  # noqa: E402
import tokenizer as tokenizing  # noqa: E402

SLOTS = 6  # pieces of a step; processes take one after another, so that a disturbed process does fewer
PICTURES = {"a": {1: 8, 2: 5, 3: 4, 4: 3}, "b": {1: 5, 2: 4, 3: 3, 4: 3}}  # pictures of a slot by number of tiles
RATES = {
    "a": {"muon": 0.015, "adam": 1.5e-3, "vision": 1.0, "decay": 0.02},
    "b": {"muon": 0.012, "adam": 1.2e-3, "vision": 0.5, "decay": 0.02},
}
# From which progress which share of slots is padded to the most tiles, as the real processor does with every picture (that costs
# twice the time, so it comes last).
PADDED = {"a": [(0.0, 0.12)], "b": [(0.0, 0.10), (0.72, 0.35), (0.88, 1.0)]}
DENSE = 0.22  # share of phase b's slots that are phase a's: dense scenes without questions
DENSE_WEIGHT = 0.5  # of their loss
PARTS = ["answer", "aux", "point", "patches"]


def factor(progress: float, decay: float) -> float:
    """Learning rate over its peak: warm up, stay, go down in a straight line."""
    return min(1.0, progress / 0.015 + 0.02, max(0.0, (1 - progress) / decay))


class Shared:
    """What the processes share besides the store."""

    def __init__(self, workers: int):
        self.barrier = mp.Barrier(workers, timeout=900)
        self.slot, self.item = mp.Value("i", 0), mp.Value("i", 0)
        self.progress, self.stop = mp.Value("d", 0.0), mp.Value("b", False)
        self.pictures = torch.zeros(SLOTS).share_memory_()
        self.parts = torch.zeros(SLOTS, len(PARTS)).share_memory_()
        self.answers = torch.zeros(SLOTS, len(packing.TYPE_IDS), 2).share_memory_()  # right, asked

    @staticmethod
    def take(counter) -> int:
        with counter.get_lock():
            counter.value += 1
            return counter.value - 1


class Trainer:
    """One process of the training. Rank 0 keeps time, writes checkpoints and reports."""

    def __init__(self, rank: int, args: argparse.Namespace, store: optimizer.Store, shared: Shared, start: dict):
        self.rank, self.args, self.store, self.shared = rank, args, store, shared
        self.config = network.Config()
        self.network = network.Network(self.config)
        text = tokenizing.Text(Tokenizer.from_file(str(args.run / "tokenizer.json")))
        self.packer = packing.Packer(self.config, sprites.load(), text)
        trained = [n for n in store.spans if args.phase == "b" or n.startswith(("vision", "multi", "aux"))]
        self.items = optimizer.work_items(store, trained)
        self.step, self.spent, self.seen = start["step"], start["spent"], start["pictures"]
        self.started = self.step
        self.average = torch.zeros(len(packing.TYPE_IDS), 2)
        self.smooth = torch.zeros(len(PARTS))
        self.leaves = [store.leaves(s) for s in range(SLOTS)]

    def run_slot(self, slot: int) -> None:
        args, shared = self.args, self.shared
        progress = shared.progress.value
        share = [share for start, share in PADDED[args.phase] if progress >= start][-1]
        padded = hash((self.step, slot)) % 10_000 / 10_000 < share
        dense = args.phase == "b" and hash((self.step, slot, 1)) % 10_000 / 10_000 < DENSE
        scenes = "a" if dense else args.phase
        batch = self.packer.draw(f"train/{args.seed}/{args.phase}/{self.step}/{slot}", scenes, padded, PICTURES[scenes])
        self.store.slots[slot].zero_()
        loss, parts, right = losses.losses(self.network, self.leaves[slot], batch)
        (loss * DENSE_WEIGHT if dense else loss).backward()
        shared.pictures[slot] = len(batch.pixels)
        shared.parts[slot] = torch.tensor([parts.get(name, 0.0) for name in PARTS])
        shared.answers[slot].zero_()
        if right is not None:
            shared.answers[slot].index_add_(
                0, batch.answer_types, torch.stack((right.float(), torch.ones(len(right))), 1)
            )

    def run(self) -> None:
        shared, args = self.shared, self.args
        began, spent_before = time.monotonic(), self.spent
        saved = reported = began
        while True:
            if self.rank == 0:
                self.spent = spent_before + time.monotonic() - began
                shared.progress.value = self.step / args.steps if args.steps else self.spent / (args.minutes * 60)
                shared.stop.value = shared.progress.value >= 1
                shared.slot.value = shared.item.value = 0
            shared.barrier.wait()
            if shared.stop.value:
                break
            while (slot := shared.take(shared.slot)) < SLOTS:
                self.run_slot(slot)
            shared.barrier.wait()
            weights = (shared.pictures / shared.pictures.sum()).tolist()
            self.step += 1
            pace = factor(shared.progress.value, args.decay)
            rates = {
                **RATES[args.phase],
                "muon": RATES[args.phase]["muon"] * pace,
                "adam": RATES[args.phase]["adam"] * pace,
            }
            while (item := shared.take(shared.item)) < len(self.items):
                optimizer.update(self.store, self.items[item], self.step, rates, weights)
            self.seen += int(shared.pictures.sum())
            if self.rank == 0:
                self.average = self.average * 0.99 + shared.answers.sum(0)
                keep = min(0.98, 1 - 1 / (self.step - self.started))
                known = shared.parts.sum(0) / (shared.parts != 0).sum(0).clamp(min=1)
                self.smooth = self.smooth * keep + known * (1 - keep)
            shared.barrier.wait()
            if self.rank == 0:
                now = time.monotonic()
                if now - reported > args.report:
                    self.report(now - began)
                    reported = now
                if now - saved > args.save_every:
                    self.save(args.run / f"{args.phase}.pt")
                    saved = now
        if self.rank == 0:
            self.report(time.monotonic() - began)
            self.save(args.run / f"{args.phase}.pt", finished=True)

    def report(self, elapsed: float) -> None:
        args, progress = self.args, self.shared.progress.value
        pace = (self.step - self.started) / max(elapsed, 1e-9)
        left = (args.steps - self.step) / max(pace, 1e-9) if args.steps else args.minutes * 60 - self.spent
        end = datetime.datetime.now() + datetime.timedelta(seconds=max(left, 0))
        losses_text = " ".join(f"{n} {x:.3f}" for n, x in zip(PARTS, self.smooth.tolist()))
        types = " ".join(
            f"{n} {100 * self.average[i, 0] / self.average[i, 1]:.0f}"
            for n, i in packing.TYPE_IDS.items()
            if self.average[i, 1] > 0
        )
        line = (
            f"{datetime.datetime.now():%H:%M:%S} phase {args.phase} step {self.step} ({100 * progress:.1f} %, {pace:.2f} steps/s, {self.seen} pictures, "
            f"ends {end:%H:%M}) rate x{factor(progress, args.decay):.2f} {losses_text} | {types}"
        )
        print(line, flush=True)
        if args.status:
            args.status.write_text(line + "\n")

    def save(self, path: pathlib.Path, finished: bool = False) -> None:
        state = {
            "values": self.store.values,
            "first": self.store.first,
            "second": self.store.second,
            "names": list(self.store.spans),
            "phase": self.args.phase,
            "step": self.step,
            "spent": self.spent,
            "pictures": self.seen,
            "finished": finished,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)
        (path.parent / f"{path.stem}.json").write_text(
            json.dumps({k: state[k] for k in ("phase", "step", "spent", "pictures", "finished")})
        )


def worker(rank: int, args: argparse.Namespace, store: optimizer.Store, shared: Shared, start: dict) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    trainer = Trainer(rank, args, store, shared, start)
    try:
        trainer.run()
    except BaseException:
        shared.barrier.abort()
        raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=["a", "b"])
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--steps", type=int, default=0, help="instead of --minutes: repeatable to the bit")
    parser.add_argument("--run", type=pathlib.Path, default=sprites.CACHE.parent / "run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0))))
    parser.add_argument("--decay", type=float, default=0.28, help="share of the phase in which the rate goes down")
    parser.add_argument("--save-every", type=float, default=300, help="seconds")
    parser.add_argument("--report", type=float, default=30, help="seconds")
    parser.add_argument("--status", type=pathlib.Path, help="also write the last report here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.run.mkdir(parents=True, exist_ok=True)
    if not (args.run / "tokenizer.json").exists():
        tokenizing.build().save(str(args.run / "tokenizer.json"))
    sprites.load()
    config = network.Config()
    store = optimizer.Store(network.parameter_shapes(config) | losses.auxiliary_shapes(config), SLOTS, args.seed)
    start = {"step": 0, "spent": 0.0, "pictures": 0}
    own, before = args.run / f"{args.phase}.pt", args.run / "a.pt"
    if own.exists():
        state = torch.load(own, weights_only=True)
        store.first.copy_(state["first"])
        store.second.copy_(state["second"])
        start = {k: state[k] for k in start}
        print(f"going on from step {start['step']}", flush=True)
    elif args.phase == "b":
        state = torch.load(before, weights_only=True)
    else:
        state = None
    if state:
        store.values.copy_(state["values"])
    shared = Shared(args.workers)
    mp.start_processes(worker, (args, store, shared, start), args.workers, start_method="fork")


if __name__ == "__main__":
    main()
