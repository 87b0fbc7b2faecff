#!/usr/bin/env python3
"""Registers, spills and resident blocks of every CUDA kernel, by nvcc without a GPU, against a checked table.

    tools/cuda_limits.py             compiles what changed, compares with tools/cuda_limits.json, prints the table
    tools/cuda_limits.py --all       also the fp16 twins of the bf16 kernels
    tools/cuda_limits.py --record    writes what it measured into that file

Every kernels/cuda/*.cu becomes PTX, which ptxas -v assembles for each architecture. A kernel fails if it spills, has a stack or
uses local memory, needs more registers than recorded, or has fewer resident blocks than recorded. The PTX of each file is searched for
the instructions that it must contain. Without a CUDA toolkit it says so and succeeds.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCES = ROOT / "kernels" / "cuda"
TABLE = ROOT / "tools" / "cuda_limits.json"
CACHE = ROOT / "build" / "cuda-limits"
ARCHITECTURES = ["sm_80", "sm_90", "sm_100"]
PTX_TARGET = {"sm_80": "sm_80", "sm_90": "sm_80", "sm_100": "sm_100"}  # that of sm_90 differs in the target's name alone
FLAGS = [*(SOURCES / "nvcc_flags.txt").read_text().split(), "-O3", f"-I{ROOT}", "-lineinfo"]
# Resources of a multiprocessor (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
SM = {
    "sm_80": {"registers": 65536, "threads": 2048, "blocks": 32, "shared": 164 * 1024},
    "sm_90": {"registers": 65536, "threads": 2048, "blocks": 32, "shared": 228 * 1024},
    "sm_100": {"registers": 65536, "threads": 2048, "blocks": 32, "shared": 228 * 1024},
}
RESERVED_SHARED = 1024  # of each block, by the driver
# What the PTX of a file must contain.
TENSOR = ["mma.sync", "ldmatrix", "cp.async"]
MUST_CONTAIN = {
    "attention_prefill": TENSOR,
    "attention_vision": TENSOR,
    "attention_cross": TENSOR,
    "attention_decode": ["mma.sync", "cp.async"],
    "matmul_fixed": TENSOR,
    "matmul_int": TENSOR,
}


def find_nvcc() -> str | None:
    for candidate in (os.environ.get("NVCC"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    return None


def with_includes(source: pathlib.Path, seen: dict[pathlib.Path, bytes]) -> dict[pathlib.Path, bytes]:
    """The file and all of ours that it includes."""
    if source not in seen and source.exists():
        seen[source] = source.read_bytes()
        for name in re.findall(rb'^#include "([^"]+)"', seen[source], re.MULTILINE):
            with_includes(ROOT / name.decode(), seen)
    return seen


def run_tool(what: str, command: list) -> str:
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{what}:\n{run.stderr.strip()}")
    return run.stderr


def compile_ptx(nvcc: str, source: pathlib.Path, target: str, version: bytes) -> pathlib.Path:
    digest = hashlib.sha256(version + " ".join([*FLAGS[:-2], target]).encode())
    for path, text in sorted(with_includes(source, {}).items()):
        digest.update(str(path.relative_to(ROOT)).encode() + text)
    ptx = CACHE / f"{source.stem}.{target}.{digest.hexdigest()[:24]}.ptx"
    if not ptx.exists():
        fresh = ptx.with_suffix(".new")
        run_tool(f"{source.name} for {target}", [nvcc, *FLAGS, f"-arch={target}", "-ptx", "-o", fresh, source])
        for old in CACHE.glob(f"{source.stem}.{target}.*"):
            if old != fresh:
                old.unlink()
        fresh.rename(ptx)
    return ptx


def assemble(nvcc: str, ptx: pathlib.Path, architecture: str, with_fp16: bool) -> dict:
    """Kernel's mangled name -> figures. Cached beside the PTX."""
    cached = ptx.with_suffix(f".{architecture}.{'all' if with_fp16 else 'bf16'}.json")
    if cached.exists():
        return json.loads(cached.read_text())
    text = ptx.read_text()
    bodies = {re.match(r"\w+", entry).group(0): entry for entry in text.split(".entry ")[1:]}
    # fp16 kernels differ from their bf16 twins in the type of the matrix instruction alone
    twins = [name for name in bodies if "6half_t" in name and name.replace("6half_t", "6bf16_t") in bodies]
    chosen = [name for name in bodies if with_fp16 or name not in twins]
    log = run_tool(
        f"ptxas, {ptx.name} for {architecture}",
        [pathlib.Path(nvcc).parent / "ptxas", "-v", "-O3", f"-arch={architecture}", "-e", ",".join(chosen), "-o", "/dev/null", ptx],
    )
    kernels = parse_ptxas(log)
    for name, figures in kernels.items():
        threads = re.search(r"\.maxntid (\d+)", bodies[name])
        figures["threads"] = int(threads.group(1)) if threads else 0
        figures["local"] = len(re.findall(r"\b(?:ld|st)\.local\b", bodies[name]))
    found = {"kernels": kernels, "instructions": {word: word in text for word in TENSOR}}
    cached.write_text(json.dumps(found))
    return found


def parse_ptxas(log: str) -> dict[str, dict]:
    kernels, name = {}, None
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            name = match.group(1)
            kernels[name] = {"spills": 0, "stack": 0}
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernels[name] |= {"stack": int(match.group(1)), "spills": int(match.group(2)) + int(match.group(3))}
        elif match := re.search(r"Used (\d+) registers", line):
            smem = re.search(r"(\d+) bytes smem", line)
            kernels[name] |= {"registers": int(match.group(1)), "static_shared": int(smem.group(1)) if smem else 0}
    return kernels


def demangle(names: list[str]) -> dict[str, str]:
    out = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True).stdout.splitlines()
    short = [re.sub(r"\([^()]*\)$", "", n).replace("tessera::cuda::", "").removeprefix("void ").replace("> >", ">>") for n in out]
    return dict(zip(names, short))


def resident_blocks(figures: dict, dynamic: int, architecture: str) -> int:
    """Registers are given to warps in units of 256, shared memory to blocks in units of 128 bytes."""
    sm, threads = SM[architecture], figures["threads"] or 1024
    registers = -(-figures["registers"] * 32 // 256) * 256 * (threads // 32)
    shared = -(-(figures["static_shared"] + dynamic + RESERVED_SHARED) // 128) * 128
    return min(sm["blocks"], sm["threads"] // threads, sm["registers"] // registers, sm["shared"] // shared)


def dynamic_shared(table: dict, kernel: str) -> int:
    """Largest dynamic shared memory of a launch: of the table's first prefix that fits."""
    if tile := re.search(r"TileShape<\w+, (\d+), (\d+), (\d+), (\d+), ", kernel):  # TileShape::kSharedBytes: Q, 2 x (K, V), P, maxima
        dim, tiles, rows, columns = map(int, tile.groups())
        vectors, keys = tiles * 16 * rows, 64
        return 2 * (vectors * dim + 4 * keys * dim + vectors * keys) + 4 * columns * vectors
    for prefix, size in table.get("dynamic_shared", {}).items():
        if kernel.startswith(prefix):
            return size
    return 0


def compact(table: dict) -> str:
    """A line a kernel."""
    parts = []
    for key, entries in table.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in entries.items()]
        parts.append(f" {json.dumps(key)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write tools/cuda_limits.json")
    parser.add_argument("--all", action="store_true", help="fp16 too")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        print("cuda-limits: skipped, no CUDA toolkit (nvcc) on this machine")
        return 0
    CACHE.mkdir(parents=True, exist_ok=True)
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    recorded = table.get("kernels", {})
    version = subprocess.run([nvcc, "--version"], capture_output=True, check=True).stdout
    sources = sorted(SOURCES.glob("*.cu"))
    if not sources:
        print("cuda-limits: no kernels under kernels/cuda", file=sys.stderr)
        return 1
    failures, seen = [], {}

    def measure(source: pathlib.Path) -> list[tuple[pathlib.Path, str, dict]]:
        found = []
        for architecture in ARCHITECTURES:
            ptx = compile_ptx(nvcc, source, PTX_TARGET[architecture], version)
            found.append((source, architecture, assemble(nvcc, ptx, architecture, args.all)))
        return found

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        try:
            results = [one for found in pool.map(measure, sources) for one in found]
        except RuntimeError as error:
            print(f"cuda-limits: {error}", file=sys.stderr)
            return 1
    for source, architecture, result in results:
        for word in MUST_CONTAIN.get(source.stem, []):
            if not result["instructions"][word]:
                failures.append(f"{source.name}, {architecture}: no {word} in its PTX")
        names = demangle(list(result["kernels"])) if result["kernels"] else {}
        for mangled, figures in sorted(result["kernels"].items(), key=lambda item: names[item[0]]):
            name = names[mangled]
            blocks = resident_blocks(figures, dynamic_shared(table, name), architecture)
            seen.setdefault(name, {})[architecture] = [figures["registers"], blocks]
            where = f"{name}, {architecture}"
            if figures["spills"] or figures["local"] or figures["stack"]:
                failures.append(f"{where}: {figures['spills']} bytes spilled, {figures['local']} local accesses, {figures['stack']} bytes of stack")
            limit = recorded.get(name, {}).get(architecture)
            if limit is None and not args.record:
                failures.append(f"{where}: not in {TABLE.name}: --record writes it")
            elif limit and (figures["registers"] > limit[0] or blocks < limit[1]) and not args.record:
                failures.append(f"{where}: {figures['registers']} registers, {blocks} blocks; recorded {limit[0]}, {limit[1]}")
    width = max(len(name) for name in seen)
    print(f"{'kernel':{width}} " + " ".join(f"{a:>10}" for a in ARCHITECTURES) + "   registers / resident blocks")
    for name, by in seen.items():
        print(f"{name:{width}} " + " ".join(f"{f'{by[a][0]} / {by[a][1]}' if a in by else '-':>10}" for a in ARCHITECTURES))
    known = {n for n in recorded if args.all or n in seen or "half_t" not in n}
    gone = sorted(known - set(seen))
    if args.record:
        kept = {name: recorded[name] for name in recorded if name not in gone}
        table["kernels"] = {name: kept.get(name, {}) | seen.get(name, {}) for name in sorted({*kept, *seen})}
        TABLE.write_text(compact(table))
    else:
        failures += [f"{name}: recorded but gone: --record drops it" for name in gone]
    for failure in failures:
        print(f"FAIL {failure}")
    print(f"cuda-limits: {len(seen)} kernels x {len(ARCHITECTURES)} architectures, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
