"""The machine's ceilings, measured in the same sitting by tessera-bench-ops."""

import re
import subprocess

import places

READING = "reading"


def parse(output):
    """{name: {"value", "unit"}} from the lines that begin with "ceilings"."""
    found = {}
    for line in output.splitlines():
        if line.startswith("ceilings"):
            for value, unit, name in re.findall(r"([\d.,]*\d) (GFLOP/s|TFLOP/s|Gop/s|Top/s|GB/s) of ([^,\n]+)", line):
                name = READING if name.startswith(READING) else name.strip()
                found[name] = {"value": float(value.replace(",", "")), "unit": unit}
    return found


def measure(repetitions):
    """{"values", "output"} or {"reason"}."""
    command = [str(places.BIN / "tessera-bench-ops"), "--repetitions", str(repetitions), "--quick"]  # all ops of all layers are `make bench`'s
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=420)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"reason": f"tessera-bench-ops: {error}"}
    values = parse(done.stdout)
    if done.returncode != 0 or not values:
        return {"reason": f"tessera-bench-ops ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}"}
    return {"values": values, "output": done.stdout}
