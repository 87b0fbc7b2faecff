"""What is measured beside the lanes: pictures on the demo model, and the work before the engine on one thread."""

import json
import os
import re
import shutil
import statistics
import subprocess

import checkpoints
import peers
import places
import report
import system

QUESTION = "Describe the picture."
PICTURE = places.DEMO / "pictures" / "09-objects-2x2.png"
MAKE_PICTURES = """
import pathlib, sys
from PIL import Image
source, folder, count = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
folder.mkdir(parents=True, exist_ok=True)
picture = Image.open(source).convert("RGB")
picture.resize((1600, 1200), Image.BICUBIC).save(folder / "four-tiles.jpg", quality=90)
for i in range(count):  # the same scene, other pixels, so that no cache knows it
    picture.putpixel((i % picture.width, i // picture.width), (i % 256, 255 - i % 256, 7))
    picture.save(folder / f"{i}.png")
"""


def make_pictures(count):
    """[paths of `count` PNG files of 4 tiles], path of a JPEG; needs the reference environment's Pillow."""
    folder = places.WORK / "pictures"
    peers.installed("transformers")
    subprocess.run([places.REFERENCE_PYTHON, "-c", MAKE_PICTURES, PICTURE, folder, str(count)], check=True)
    return [folder / f"{i}.png" for i in range(count)], folder / "four-tiles.jpg"


def not_known(command, told):
    """Starts a peer with the demo model, and says what the peer said of it: the last line of its output that matches `told`."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(places.LLAMA_SOURCE / "gguf-py")})
    lines = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines() if re.search(told, line)]
    raise peers.Unavailable(lines[-1] if lines else f"ended with {done.returncode} and told no reason")


class Pictures:
    """Time to first token of a new and of a repeated picture, decode, memory, energy; in turn with the peers."""
    TABLES = (("new", "demo model: first token, new picture of 4 tiles", "ms", "low", 1),
              ("again", "demo model: first token, the same picture again", "ms", "low", 1),
              ("decode", "demo model: decode after a picture, one stream", "tok/s", "high", 1),
              ("cpu", "demo model: CPU time of decode after a picture", "ms/token", "low", 2),
              ("joules", "demo model: energy of decode after a picture", "J/token", "low", 3),
              ("memory", "demo model: peak resident memory", "MiB", "low", 0),
              ("start", "demo model: start to ready", "s", "low", 2),
              ("same", "demo model: greedy tokens from the first on that are those of transformers in fp32", "tokens", "high", 0))

    def __init__(self, rounds, quick):
        self.per_round, self.tokens = (2, 16) if quick else (8, 64)
        self.sources = [("transformers fp32", lambda: self.transformers("float32")),
                        ("transformers bf16", lambda: self.transformers("bfloat16")),
                        ("Tessera", lambda: peers.TesseraServer(places.DEMO, "auto", ["--kv-memory", "256MiB"])),
                        ("mistral.rs", self.mistralrs), ("OpenVINO", self.openvino), ("llama.cpp", self.llama)]
        self.samples = {name: {key: [] for key, *_ in self.TABLES} for name, _ in self.sources}
        self.reasons, self.words = {}, None  # by (source, table)
        try:
            self.pictures, _ = make_pictures(rounds * len(self.sources) * (self.per_round + 1) + 1)
            self.common = self.pictures.pop(0)  # everybody is asked about this one, for the words
        except (peers.Unavailable, subprocess.CalledProcessError) as error:
            self.fail(None, f"no pictures could be made: {error}")

    def fail(self, name, reason):
        for source, _ in self.sources:
            if name in (None, source):
                self.reasons.update({(source, key): reason for key, *_ in self.TABLES if (source, key) not in self.reasons})

    @staticmethod
    def transformers(dtype):
        peers.installed("transformers")
        return peers.Worker(places.REFERENCE_PYTHON, "transformers", places.DEMO, dtype)

    @staticmethod
    def mistralrs():
        """It reads configurations of transformers 4.x only: a copy of the directory with that one rewritten."""
        peers.installed("mistralrs")
        directory = places.WORK / "demo-4x"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for path in places.DEMO.iterdir():
            if path.is_file() and path.name != "config.json":
                (directory / path.name).symlink_to(path)
        config = json.loads((places.DEMO / "config.json").read_text())
        checkpoints.write_json(directory / "config.json", checkpoints.make_random_model.old_style(config))
        return peers.Worker(places.PYTHON, "mistralrs", directory, answer_limit=90)

    @staticmethod
    def openvino():
        peers.installed("openvino")
        return peers.Worker(places.PYTHON, "openvino", places.DEMO)

    @staticmethod
    def llama():
        """llama.cpp reads GGUF alone; whether this model can be one is its own converter's word."""
        peers.installed("llama.cpp")
        return not_known([places.REFERENCE_PYTHON, "-B", places.LLAMA_SOURCE / "convert_hf_to_gguf.py", places.DEMO,
                          "--outfile", places.WORK / "demo.gguf"], "ERROR|Error|error|not supported")

    def round(self, say):
        for name, start in self.sources:
            if (name, "new") in self.reasons:
                continue
            try:
                running = start()
            except (peers.Unavailable, OSError, subprocess.TimeoutExpired) as unavailable:
                self.fail(name, report.plain(unavailable, places.ROOT))
                say(f"  demo model, {name}: {report.plain(unavailable, places.ROOT)}")
                continue
            samples = self.samples[name]
            try:
                samples["start"].append(running.start_seconds)
                try:
                    self.first_tokens(running, samples)
                    self.answers(running, name, samples)
                finally:
                    if running.peak_memory():
                        samples["memory"].append(running.peak_memory() / 2**20)
            except Exception as error:  # whatever a peer does: its rows tell it
                self.fail(name, report.plain(f"{error}; it said: {running.said()}", places.ROOT))
            finally:
                running.stop()
            if samples["new"]:
                say(f"  demo model, {name}: first token {statistics.median(samples['new']):.1f} ms, again {statistics.median(samples['again']):.1f} ms")

    def first_tokens(self, running, samples):
        """Alone, so that a peer that answers with one token only is measured as far as it goes."""
        running.ask(self.pictures.pop().read_bytes(), QUESTION, 1)
        for _ in range(self.per_round):
            data = self.pictures.pop().read_bytes()
            samples["new"].append(running.ask(data, QUESTION, 1).first * 1e3)
            samples["again"].append(running.ask(data, QUESTION, 1).first * 1e3)

    def answers(self, running, name, samples):
        data = self.common.read_bytes()
        if name == "transformers fp32" and not self.words:  # to its own end: behind it nobody agrees what is said
            self.words = {"ids": running.ask(data, QUESTION, self.tokens, ends=True).ids, "beginnings": []}
        answer = running.ask(data, QUESTION, self.tokens)
        if self.words and not samples["same"]:
            samples["same"].append(report.agreement(answer.ids, answer.text, self.words))
        if not self.words:
            self.reasons[name, "same"] = "transformers in fp32 is not there"
        for _ in range(self.per_round):
            with system.Window(running.pid) as window:
                answer = running.ask(data, QUESTION, self.tokens)
            samples["decode"].append((answer.tokens - 1) / (answer.last - answer.first))
            samples["cpu"].append(1e3 * window.measured_cpu / answer.tokens)
            if window.joules is not None:
                samples["joules"].append(window.joules / answer.tokens)

    def tables(self):
        out = []
        for key, what, unit, better, digits in self.TABLES:
            if key == "joules" and not any(samples[key] for samples in self.samples.values()):
                continue  # the head says why energy cannot be read
            if key == "same" and self.words:
                what += f", of {len(self.words['ids'])}"
            rows = [{"name": name, "ours": name == "Tessera", "samples": samples[key], "reason": self.reasons.get((name, key), "not measured")}
                    for name, samples in self.samples.items()]
            out.append({"what": what, "unit": unit, "better": better, "digits": digits, "compared": key != "same", "rows": rows})
        return out


class Prepare:
    """A JPEG of 4 tiles of 560 pixels to pixel values, and 1 MiB to token ids; one thread, pinned, in turn with Hugging Face's."""
    NAMES = ("Tessera", "Hugging Face")

    def __init__(self, rounds, quick):
        self.repetitions = 3 if quick else 5
        self.samples = {(what, name): [] for what in ("tokenize", "preprocess") for name in self.NAMES}
        self.digests, self.reasons, self.inputs = {}, {}, {}
        try:
            self.inputs["tokenize"] = ["--model", self.tokenizer(), "--text", self.text()]
        except checkpoints.Missing as missing:
            self.reasons["tokenize"] = str(missing)
        try:
            self.inputs["preprocess"] = ["--model", self.processor(), "--picture", make_pictures(0)[1]]
        except (peers.Unavailable, subprocess.CalledProcessError) as error:
            self.reasons["preprocess"] = f"no picture could be made: {error}"

    @staticmethod
    def tokenizer():
        try:
            return checkpoints.checkpoint("smollm2-135m")
        except checkpoints.Missing:
            return checkpoints.checkpoint("llama-135m")

    @staticmethod
    def text():
        """1 MiB of this repository's own prose and code, in order of names."""
        names = subprocess.run(["git", "ls-files", "*.md", "*.h", "*.cc", "*.py"], cwd=places.ROOT, capture_output=True, text=True).stdout.split("\n")
        whole = b"".join((places.ROOT / name).read_bytes() for name in sorted(names) if name and (places.ROOT / name).exists())
        while 0 < len(whole) < 1 << 20:
            whole += whole
        path = places.WORK / "text-1mib.txt"
        path.write_bytes(whole[:1 << 20].decode(errors="ignore").encode())
        return path

    @staticmethod
    def processor():
        directory = places.WORK / "processor-560"
        directory.mkdir(parents=True, exist_ok=True)
        checkpoints.make_random_model.write_image_processor(str(directory), 560, 4)
        checkpoints.write_json(directory / "config.json", {"model_type": "mllama"})
        return directory

    def round(self, say):
        for what, arguments in self.inputs.items():
            for name in self.NAMES:
                if (what, name) in self.reasons:
                    continue
                command = [places.BIN / "tessera-bench-prepare"]
                if name != "Tessera":
                    command = [places.REFERENCE_PYTHON, "-B", places.HERE / "worker_prepare.py"]
                try:
                    done = subprocess.run(["taskset", "-c", str(system.CPUS - 1), *command, *arguments, "--repetitions", str(self.repetitions)],
                                          capture_output=True, text=True, timeout=300, check=True)
                    told = json.loads(done.stdout)[what]
                except subprocess.CalledProcessError as error:
                    self.reasons[what, name] = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
                    continue
                except (OSError, subprocess.TimeoutExpired) as error:
                    self.reasons[what, name] = str(error)
                    continue
                self.samples[what, name] += [second * 1e3 for second in told["seconds"]]
                self.digests[what, name] = told["digest"]
                say(f"  {what}, {name}: {statistics.median(self.samples[what, name]):.1f} ms")

    def tables(self):
        out = []
        for what, title in (("tokenize", "tokenise 1 MiB, CPU time of one thread"), ("preprocess", "JPEG to pixel values of 4 tiles of 560, CPU time of one thread")):
            equal = {self.digests.get((what, name)) for name in self.NAMES}
            note = "results equal bit for bit" if len(equal) == 1 and None not in equal else "results differ or one is missing"
            rows = [{"name": name, "ours": name == "Tessera", "samples": self.samples[what, name],
                     "reason": self.reasons.get((what, name)) or self.reasons.get(what, "not measured")} for name in self.NAMES]
            out.append({"what": f"{title} ({note})", "unit": "ms", "better": "low", "rows": rows})
        return out
