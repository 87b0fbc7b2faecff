"""What the machine says of itself: processor, load, CPU time of processes, memory, energy."""

import glob
import os
import pathlib
import platform
import time

TICK = os.sysconf("SC_CLK_TCK")
CPUS = len(os.sched_getaffinity(0))


def describe():
    """Facts for the head of a report."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), platform.processor())
    flags = next((line.split(":", 1)[1].split() for line in info.splitlines() if line.startswith("flags")), [])
    known = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"]
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo", encoding="utf-8") if line.startswith("MemTotal"))
    return {"cpu": model, "cpus": CPUS, "instructions": [flag for flag in known if flag in flags], "memory_gib": round(memory / 2**20, 1),
            "kernel": platform.release(), "python": platform.python_version()}


def cpu_seconds():
    """(busy, stolen) CPU seconds of the whole machine since its start."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq) / TICK, steal / TICK


def process_cpu_seconds(pid):
    """CPU seconds of a process with all its threads and the children it has reaped; 0 when it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    return sum(int(field) for field in text.rpartition(")")[2].split()[11:15]) / TICK


def peak_memory(pid):
    """Peak resident bytes of a process, mapped files included; None when the kernel does not say."""
    try:
        for line in open(f"/proc/{pid}/status", encoding="utf-8"):
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def busy_share(seconds=1.0):
    """Share of all CPUs that was busy (or stolen) during the next `seconds`."""
    begin, start = sum(cpu_seconds()), time.monotonic()
    time.sleep(seconds)
    return (sum(cpu_seconds()) - begin) / ((time.monotonic() - start) * CPUS)


def wait_for_quiet(limit, timeout):
    """Waits until two samples of a second in a row are below `limit`; gives (last share, seconds waited, whether it is quiet)."""
    start, calm = time.monotonic(), 0
    while True:
        share = busy_share(1.0)
        calm = calm + 1 if share <= limit else 0
        waited = time.monotonic() - start
        if calm >= 2 or waited >= timeout:
            return share, waited, calm >= 2


class Window:
    """CPU of the machine over a measurement: how much was neither the measured process nor the load generator."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        self.begin = self._now()
        self.energy = rapl_joules()
        return self

    def _now(self):
        busy, stolen = cpu_seconds()
        return time.perf_counter(), busy, stolen, process_cpu_seconds(self.pid), time.process_time()

    def __exit__(self, *_):
        wall, busy, stolen, measured, generator = (after - before for after, before in zip(self._now(), self.begin))
        self.wall, self.measured_cpu, self.generator_cpu = wall, measured, generator
        self.foreign_share = max(0.0, busy + stolen - measured - generator) / (wall * CPUS)
        after = rapl_joules()
        self.joules = sum((after[zone] - self.energy[zone]) for zone in after) if after and self.energy else None
        if self.joules is not None and self.joules < 0:
            self.joules = None  # a counter went over its end


def rapl_joules():
    """{package: joules since some time} or None where RAPL cannot be read."""
    zones = {}
    for path in glob.glob("/sys/class/powercap/intel-rapl:[0-9]*/energy_uj"):
        if path.count(":") != 1:
            continue  # a part of a package that is counted already
        try:
            zones[path] = int(pathlib.Path(path).read_text()) * 1e-6
        except (OSError, ValueError):
            return None
    return zones or None


def rapl_reason():
    """Why energy cannot be read, or None."""
    if rapl_joules():
        return None
    if not os.path.isdir("/sys/class/powercap"):
        return "the kernel has no /sys/class/powercap (usual in a virtual machine)"
    return "no readable intel-rapl package under /sys/class/powercap"
