#!/usr/bin/env python3
"""Registers, spills and resident blocks of every CUDA kernel, by nvcc without a GPU, against a checked table.

    tools/cuda_limits.py             compiles what changed, compares with tools/cuda_limits.json, prints the table
    tools/cuda_limits.py --record    writes that file

Every kernels/cuda/*.cu is compiled for sm_80, sm_90 and sm_100 with -Xptxas -v. A kernel fails if it spills, uses local memory, needs
more registers than recorded, or has fewer resident blocks than recorded. The PTX of each file is searched for the instructions that it
must contain. Without a CUDA toolkit it says so and succeeds.
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
FLAGS = ["-std=c++20", "-O3", f"-I{ROOT}", "--expt-relaxed-constexpr", "-lineinfo"]
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
}


def find_nvcc() -> str | None:
    for candidate in (os.environ.get("NVCC"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    return None


def fingerprint(nvcc: str) -> str:
    """Of everything that every file includes: a change of a header compiles all again."""
    digest = hashlib.sha256(subprocess.run([nvcc, "--version"], capture_output=True, check=True).stdout)
    digest.update(" ".join(FLAGS[:2]).encode())
    for path in sorted([*SOURCES.glob("*.cuh"), *SOURCES.glob("*.h"), *(ROOT / "kernels").glob("*.h")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def compile_file(nvcc: str, source: pathlib.Path, architecture: str, common: str) -> dict[str, dict]:
    """Kernel's mangled name -> figures. Cached by content."""
    key = hashlib.sha256((common + architecture).encode() + source.read_bytes()).hexdigest()[:24]
    cached = CACHE / f"{source.stem}.{architecture}.{key}.json"
    if cached.exists():
        return json.loads(cached.read_text())
    ptx = CACHE / f"{source.stem}.{architecture}.ptx"
    run = subprocess.run([nvcc, *FLAGS, f"-arch={architecture}", "-ptx", "-o", ptx, source], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{source.name} for {architecture}:\n{run.stderr.strip()}")
    ptxas = pathlib.Path(nvcc).parent / "ptxas"
    run = subprocess.run([ptxas, "-v", "-O3", f"-arch={architecture}", "-o", "/dev/null", ptx], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"ptxas, {source.name} for {architecture}:\n{run.stderr.strip()}")
    text = ptx.read_text()
    kernels = parse_ptxas(run.stderr)
    for entry in re.split(r"(?=\.visible \.entry |\.weak \.entry |\.entry )", text)[1:]:
        name = re.search(r"\.entry (\w+)", entry).group(1)
        if name in kernels:
            threads = re.search(r"\.maxntid (\d+)", entry)
            kernels[name]["threads"] = int(threads.group(1)) if threads else 0
            kernels[name]["local"] = len(re.findall(r"\b(?:ld|st)\.local\b", entry))
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
    short = [re.sub(r"\(.*\)$", "", n).replace("tessera::cuda::", "").removeprefix("void ").replace("(int)", "") for n in out]
    return dict(zip(names, short))


def resident_blocks(figures: dict, dynamic: int, architecture: str) -> int:
    """Registers are given to warps in units of 256, shared memory to blocks in units of 128 bytes."""
    sm, threads = SM[architecture], figures["threads"] or 1024
    registers = -(-figures["registers"] * 32 // 256) * 256 * (threads // 32)
    shared = -(-(figures["static_shared"] + dynamic + RESERVED_SHARED) // 128) * 128
    return min(sm["blocks"], sm["threads"] // threads, sm["registers"] // registers, sm["shared"] // shared)


def dynamic_shared(table: dict, kernel: str) -> int:
    """Largest dynamic shared memory of a launch: of the table's first prefix that fits."""
    for prefix, size in table.get("dynamic_shared", {}).items():
        if kernel.startswith(prefix):
            return size
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write tools/cuda_limits.json")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        print("cuda-limits: skipped, no CUDA toolkit (nvcc) on this machine")
        return 0
    CACHE.mkdir(parents=True, exist_ok=True)
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    recorded = table.get("kernels", {})
    common, sources = fingerprint(nvcc), sorted(SOURCES.glob("*.cu"))
    if not sources:
        print("cuda-limits: no kernels under kernels/cuda", file=sys.stderr)
        return 1
    jobs = [(s, a) for s in sources for a in ARCHITECTURES]
    failures, seen = [], {}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        try:
            results = list(pool.map(lambda job: compile_file(nvcc, *job, common), jobs))
        except RuntimeError as error:
            print(f"cuda-limits: {error}", file=sys.stderr)
            return 1
    for (source, architecture), result in zip(jobs, results):
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
    print(f"{'kernel':64} " + " ".join(f"{a:>14}" for a in ARCHITECTURES) + "   registers / resident blocks")
    for name, by in seen.items():
        print(f"{name[:64]:64} " + " ".join(f"{f'{by[a][0]} / {by[a][1]}' if a in by else '-':>14}" for a in ARCHITECTURES))
    gone = [] if args.record else sorted(set(recorded) - set(seen))
    failures += [f"{name}: recorded but gone: --record drops it" for name in gone]
    if args.record:
        table["kernels"] = {name: seen[name] for name in sorted(seen)}
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    for failure in failures:
        print(f"FAIL {failure}")
    print(f"cuda-limits: {len(seen)} kernels x {len(ARCHITECTURES)} architectures, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
