#!/usr/bin/env python3
"""Floors of Llama-3.2-11B-Vision on data-centre GPUs: what the counted work costs at the datasheet's rates.

    tools/cuda_roofline.py [--counters tests/cuda/counters.json] [--out docs/performance-cuda.md]

For each kernel the least bytes and FLOPs of the problem are multiplied by what the emulator counted our kernels to move and to compute
above the least (tests/cuda/counters.json, made by the counters test), and divided by the chip's memory bandwidth and dense bf16 rate; the
larger of both times is the floor. Nothing here was timed: latencies of launches, caches and clocks are not in it.
"""

import argparse
import dataclasses
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Chip:
    """Datasheet figures: dense bf16 tensor-core rate without sparsity, HBM bandwidth."""

    name: str
    flops: float
    bandwidth: float
    source: str


CHIPS = [
    Chip("A100 80GB SXM", 312e12, 2.039e12, "NVIDIA A100 Tensor Core GPU datasheet (2021)"),
    Chip("H100 SXM", 989.4e12, 3.35e12, "NVIDIA H100 Tensor Core GPU datasheet (2023), 1,979 with sparsity halved"),
    Chip("B200", 2.25e15, 8.0e12, "NVIDIA DGX B200 datasheet (2024), per GPU, dense"),
]
BYTES = 2  # bf16


@dataclasses.dataclass(frozen=True)
class Shape:
    """Llama-3.2-11B-Vision (config.json of the model)."""

    hidden: int = 4096
    layers: int = 32  # self-attention
    cross_layers: int = 8
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    mlp: int = 14336
    vocab: int = 128256
    tiles: int = 4
    tile_tokens: int = 1601
    padded_tile_tokens: int = 1608
    vision_hidden: int = 1280
    vision_heads: int = 16
    vision_mlp: int = 5120
    vision_layers: int = 40  # 32 local, 8 global: all attend over every tile
    vision_out: int = 7680  # last and five intermediate states
    patch: int = 14

    @property
    def vision_rows(self) -> int:
        return self.tiles * self.padded_tile_tokens

    @property
    def picture_keys(self) -> int:
        return self.tiles * self.tile_tokens

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def mlp_weights(self) -> int:
        return 3 * self.hidden * self.mlp

    @property
    def self_weights(self) -> int:
        return 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_width + self.mlp_weights

    @property
    def cross_weights(self) -> int:  # of a token; K and V projections run once a picture
        return 2 * self.hidden * self.hidden + self.mlp_weights


@dataclasses.dataclass
class Work:
    """One kind of work of a phase: the least it can be, and which counted case says what we do above that."""

    name: str
    flops: float
    bytes: float
    case: str = ""  # key in the counters table; empty: a GEMM by cuBLASLt, taken at the least

    def floor(self, chip: Chip, ratios: dict) -> tuple[float, str]:
        waste = ratios[self.case] if self.case else {"flops": 1.0, "bytes": 1.0}
        compute, memory = self.flops * waste["flops"] / chip.flops, self.bytes * waste["bytes"] / chip.bandwidth
        return max(compute, memory), "compute" if compute >= memory else "memory"


def gemm(name: str, rows: int, weights: int, traffic: int = 0) -> Work:
    """`weights` elements, read once; `traffic` activation elements a row, in and out."""
    return Work(name, 2.0 * rows * weights, BYTES * (weights + rows * traffic))


def encode(s: Shape) -> list[Work]:
    rows, width = s.vision_rows, s.vision_hidden
    layer = 4 * width * width + 2 * width * s.vision_mlp
    attention = Work(
        "vision attention",
        s.vision_layers * 4.0 * rows * rows * width,
        s.vision_layers * 4.0 * rows * width * BYTES,
        "vision_attention",
    )
    return [
        gemm("patch embedding", rows, 3 * s.patch * s.patch * width, 3 * s.patch * s.patch + width),
        gemm("vision projections and MLP", rows, s.vision_layers * layer, s.vision_layers * (8 * width + 2 * s.vision_mlp)),
        attention,
        gemm("projector", s.picture_keys, s.vision_out * s.hidden, s.vision_out + s.hidden),
        gemm("cross K/V projection", s.picture_keys, s.cross_layers * 2 * s.hidden * s.kv_width, s.hidden + 2 * s.kv_width),
    ]


def prefill(s: Shape, tokens: int) -> list[Work]:
    q = tokens * s.hidden
    return [
        gemm("text projections and MLP", tokens, s.layers * s.self_weights + s.cross_layers * s.cross_weights),
        Work(
            "self-attention prefill",
            s.layers * 2.0 * tokens * tokens * s.hidden,
            s.layers * BYTES * (2.0 * q + 2.0 * tokens * s.kv_width),
            "self_prefill",
        ),
        Work(
            "cross-attention prefill",
            s.cross_layers * 4.0 * tokens * s.picture_keys * s.hidden,
            s.cross_layers * BYTES * (2.0 * q + 2.0 * s.picture_keys * s.kv_width),
            "cross_prefill",
        ),
        gemm("head", 1, s.hidden * s.vocab),
    ]


def decode(s: Shape, batch: int, context: int, pictures: int) -> list[Work]:
    """One step of `batch` sequences of `context` tokens that show `pictures` different pictures in all."""
    weights = s.layers * s.self_weights + s.cross_layers * s.cross_weights + s.hidden * s.vocab
    return [
        gemm("weights, all layers and head", batch, weights),
        Work(
            "self-attention decode",
            s.layers * 4.0 * batch * context * s.hidden,
            s.layers * BYTES * 2.0 * batch * context * s.kv_width,
            "self_decode",
        ),
        Work(
            "cross-attention decode",
            s.cross_layers * 4.0 * batch * s.picture_keys * s.hidden,
            s.cross_layers * BYTES * 2.0 * pictures * s.picture_keys * s.kv_width,
            "cross_decode_shared" if pictures < batch else "cross_decode",
        ),
    ]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"


def phase(title: str, works: list[Work], ratios: dict) -> list[str]:
    lines = [f"### {title}", "", "| work | GFLOP | MB | counted FLOP, bytes over the least | " + " | ".join(c.name for c in CHIPS) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(CHIPS))
    total = [0.0] * len(CHIPS)
    for work in works:
        waste = ratios[work.case] if work.case else None
        counted = f"{waste['flops']:.2f}, {waste['bytes']:.2f}" if waste else "GEMM, at the least"
        cells = []
        for i, chip in enumerate(CHIPS):
            seconds, bound = work.floor(chip, ratios)
            total[i] += seconds
            cells.append(f"{milliseconds(seconds)} ms ({bound})")
        lines.append(f"| {work.name} | {work.flops / 1e9:,.0f} | {work.bytes / 1e6:,.0f} | {counted} | " + " | ".join(cells) + " |")
    lines.append("| **floor** | | | | " + " | ".join(f"**{milliseconds(t)} ms**" for t in total) + " |")
    return [*lines, ""]


def report(ratios: dict) -> str:
    s = Shape()
    lines = [
        "# CUDA: floors from counted work",
        "",
        "Written by `make bench-cuda-model`; do not edit. Llama-3.2-11B-Vision, bf16. The least bytes and FLOPs of each kernel, times what the emulator",
        "counted ours to move and compute above the least (`tests/cuda/counters.json`), over the datasheet's rates. **Nothing here was timed.**",
        "",
        "| chip | bf16 dense | memory | source |",
        "|---|---|---|---|",
        *[f"| {c.name} | {c.flops / 1e12:,.0f} TFLOP/s | {c.bandwidth / 1e12:.2f} TB/s | {c.source} |" for c in CHIPS],
        "",
        f"## Time to the first token: a picture of {s.tiles} tiles and 64 tokens",
        "",
        *phase("Encoding the picture (once per digest)", encode(s), ratios),
        *phase("Prefill of 64 tokens", prefill(s, 64), ratios),
        "## Time per output token at a context of 512 tokens",
        "",
    ]
    for batch in (1, 8, 64):
        lines += phase(f"{batch} sequence{'s' if batch > 1 else ''}, each its own picture", decode(s, batch, 512, batch), ratios)
    lines += phase("8 sequences that share one picture", decode(s, 8, 512, 1), ratios)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counters", type=pathlib.Path, default=ROOT / "tests" / "cuda" / "counters.json")
    parser.add_argument("--out", type=pathlib.Path, help="also write the page here")
    args = parser.parse_args()
    try:
        table = json.loads(args.counters.read_text())["cases"]
        needed = ["vision_attention", "self_prefill", "self_decode", "cross_prefill", "cross_decode", "cross_decode_shared"]
        ratios = {case: {"flops": float(table[case]["flops"]), "bytes": float(table[case]["bytes"])} for case in needed}
    except (OSError, KeyError, ValueError) as error:
        print(f"cuda_roofline: {args.counters}: {error}: the counters test writes it", file=sys.stderr)
        return 1
    text = report(ratios)
    print(text, end="")
    if args.out:
        args.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
