"""The peers behind one interface: start one with a model, generate, stop it. Each run of a peer is a process of its own.

A lane is a peer with a weight format. Servers are asked through their own protocol; libraries run in a worker process
(worker_*.py), which is told what to do by lines of JSON.
"""

import dataclasses
import http.client
import json
import pathlib
import re
import select
import socket
import subprocess
import time

import checkpoints
import clients
import places
import system

START_LIMIT_S = 120
CONTEXT = 1024  # tokens of K/V a stream has, in every server


class Unavailable(Exception):
    """Why a lane cannot be measured."""


@dataclasses.dataclass(frozen=True)
class Lane:
    peer: str
    weights: str  # as the peer calls it
    bits: int     # 32, 16, 8 or 4: lanes are compared within the class
    only: tuple = ()  # the metrics that it is there for, where not all

    @property
    def label(self):
        return f"{self.peer} {self.weights}"


# Both in fp32 say the same words, or one of them is wrong. OpenVINO's reader of GGUF knows no BF16.
REFERENCE = Lane("transformers", "fp32", 32, ("agreement",))
LANES = [REFERENCE, Lane("Tessera", "fp32", 32, ("agreement",)),
         Lane("Tessera", "bf16", 16), Lane("llama.cpp", "BF16", 16), Lane("Tessera", "int8", 8), Lane("llama.cpp", "Q8_0", 8),
         Lane("Tessera", "int4", 4), Lane("llama.cpp", "Q4_0", 4), Lane("transformers", "bf16", 16), Lane("OpenVINO", "Q8_0", 8),
         Lane("OpenVINO", "Q4_0", 4), Lane("OpenVINO", "F16", 16), Lane("mistral.rs", "auto", 16), Lane("mistral.rs", "Q8_0", 8),
         Lane("mistral.rs", "Q4_0", 4)]  # in the order of running: the servers first, should the time end


class Running:
    """A started peer. `pid` is the process that computes; `start_seconds` from spawn to ready."""

    def __init__(self, command, name):
        self.log = open(places.WORK / f"{name}.log", "w+", encoding="utf-8", errors="replace")
        self.begin = time.perf_counter()
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        cwd=places.ROOT, text=True)
        self.pid, self.start_seconds, self.facts = self.process.pid, None, {}

    def ready(self):
        self.start_seconds = time.perf_counter() - self.begin

    def said(self):
        """The last telling line of what it wrote, for reasons."""
        self.log.flush()
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().splitlines() if line.strip()]
        for line, following in zip(lines, lines[1:]):
            if "panicked at" in line:
                return following[:300]
        telling = [line for line in lines if re.search(r"error|panicked|exception|refus|not |unknown|cannot|invalid", line, re.I)] or lines
        return telling[-1][-300:] if telling else "it said nothing"

    def wait_until(self, happened):
        while time.perf_counter() - self.begin < START_LIMIT_S:
            if self.process.poll() is not None:
                break
            if happened():
                return self.ready()
            time.sleep(0.02)
        code, said = self.process.poll(), self.said()
        self.stop()
        raise Unavailable(f"was not ready within {START_LIMIT_S} s: {said}" if code is None else f"ended with {code}: {said}")

    def peak_memory(self):
        return system.peak_memory(self.pid)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            pipe.close()


class Server(Running):
    """A program that is asked through a port; `generate` is its client's."""

    def together(self, prompts, tokens):
        """All prompts at the same time: (tokens of all answers, wall seconds)."""
        return clients.together(self.generate, prompts, tokens)


class TesseraServer(Server):
    def __init__(self, directory, weights, extra=()):
        super().__init__([places.BIN / "tessera-server", "--model", directory, "--listen", "127.0.0.1:0", "--no-request-log",
                          "--allow-raw-prompts", "--weights", weights, *extra], "tessera")
        self.client, model = None, []

        def serving():
            if not self.client:
                match = re.search(r"listening on (\S+)", (places.WORK / "tessera.log").read_text(errors="replace"))
                if not match:
                    return False
                self.client = clients.TesseraClient(match[1])
            model.append(self.client.model())
            return model[-1] is not None

        self.wait_until(serving)
        model = model[-1]
        self.facts = {"tier": model.tier, "threads": model.threads, "weights": model.weights, "activations": model.activations,
                      "weight_bytes": model.weight_bytes, "kv_dtype": model.kv_dtype}
        self.generate, self.ask = self.client.generate, self.client.ask

    def busy_seconds(self):
        """Seconds of all steps so far, as the engine counts them."""
        return self.client.model().counters.busy_seconds

    def stop(self):
        if self.client:
            self.client.close()
        super().stop()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LlamaServer(Server):
    def __init__(self, path, streams):
        port = free_port()
        super().__init__([places.LLAMA_BIN / "llama-server", "-m", path, "--host", "127.0.0.1", "--port", port, "-t", system.CPUS, "-tb", system.CPUS,
                          "-np", streams, "-c", CONTEXT * streams, "--no-webui", "-lv", "1"], "llama")
        self.process.stdout.close()
        self.process.stdout = open("/dev/null", encoding="utf-8")
        self.client = clients.LlamaClient("127.0.0.1", port)

        def healthy():
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
            except OSError:
                return False
            finally:
                connection.close()

        self.wait_until(healthy)
        self.facts = {"threads": system.CPUS, "weight_bytes": path.stat().st_size}
        self.generate = self.client.generate


class Worker(Running):
    """A library in a process of its own: worker_NAME.py with a Python that has it."""

    def __init__(self, python, name, *arguments, answer_limit=240):
        self.answer_limit = answer_limit
        super().__init__([python, places.HERE / f"worker_{name}.py", *arguments], f"worker-{name}")
        try:
            self.facts = self.reply(START_LIMIT_S)
        except Unavailable:
            self.stop()
            raise
        self.ready()
        chosen = re.search(r"DType selected is (\w+)", pathlib.Path(self.log.name).read_text(errors="replace"))
        if chosen:
            self.facts["dtype"] = chosen[1]

    def reply(self, limit):
        if not select.select([self.process.stdout], [], [], limit)[0]:
            raise Unavailable(f"did not answer within {limit} s: {self.said()}")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(timeout=20)
            raise Unavailable(f"ended with {self.process.returncode}: {self.said()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Unavailable(answer["error"])
        return answer

    def call(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.reply(self.answer_limit)

    def generate(self, ids, tokens, text=None):
        return clients.Answer(**self.call(op="generate", ids=ids, tokens=tokens, text=text))

    def together(self, prompts, tokens):
        begin = time.perf_counter()
        count = self.call(op="together", prompts=prompts, tokens=tokens)["tokens"]
        return count, time.perf_counter() - begin

    def ask(self, picture, question, tokens, **more):
        path = places.WORK / "asked.picture"
        path.write_bytes(picture)
        return clients.Answer(**self.call(op="ask", picture=str(path), question=question, tokens=tokens, **more))


def installed(name):
    """Versions of a peer, or Unavailable with install.py's reason."""
    entry = json.loads(places.INSTALLED.read_text()).get(name, {"reason": "not installed"})
    if "reason" in entry:
        raise Unavailable(entry["reason"])
    return entry


def start(lane, model, streams):
    """Starts `lane` with the checkpoint `model`, able to serve `streams` requests at a time if it is a server."""
    try:
        directory = checkpoints.checkpoint(model)
        if lane.peer == "Tessera":
            return TesseraServer(directory, lane.weights, ["--self-pages", str(streams * CONTEXT // 16)])
        if lane.peer == "llama.cpp":
            installed("llama.cpp")
            return LlamaServer(checkpoints.to_gguf(directory, lane.weights), streams)
        if lane.peer == "transformers":
            installed("transformers")
            return Worker(places.REFERENCE_PYTHON, "transformers", directory, {32: "float32", 16: "bfloat16"}[lane.bits])
        if lane.peer == "OpenVINO":
            installed("openvino")
            return Worker(places.PYTHON, "openvino", checkpoints.to_gguf(directory, lane.weights))
        installed("mistralrs")
        if lane.bits == 16:
            return Worker(places.PYTHON, "mistralrs", directory)
        return Worker(places.PYTHON, "mistralrs", checkpoints.to_gguf(directory, lane.weights))
    except checkpoints.Missing as missing:
        raise Unavailable(str(missing)) from None
    except OSError as error:
        raise Unavailable(str(error)) from None
