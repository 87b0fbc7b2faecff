"""What is measured beside the lanes: pictures on the demo model, and the work before the engine on one thread."""

import json
import statistics
import subprocess

import checkpoints
import peers
import places
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


def absent(names, reason):
    return [{"name": name, "reason": reason, "ours": name.startswith("Tessera")} for name in names]


class Pictures:
    """Time to first token of a new and of a repeated picture, decode, and energy; in turn with transformers."""
    TOKENS = 64

    def __init__(self, rounds, quick):
        self.rounds, self.per_round = rounds, 2 if quick else 5
        self.sources = [("Tessera", lambda: peers.TesseraServer(places.DEMO, "auto", ["--kv-memory", "256MiB"])),
                        ("transformers fp32", lambda: self.transformers("float32")),
                        ("transformers bf16", lambda: self.transformers("bfloat16")),
                        ("mistral.rs", self.mistralrs)]
        self.samples = {name: {"new": [], "again": [], "decode": []} for name, _ in self.sources}
        self.reasons = {}
        try:
            self.pictures, _ = make_pictures(rounds * len(self.sources) * (self.per_round + 1))
        except (peers.Unavailable, subprocess.CalledProcessError) as error:
            self.pictures = []
            self.reasons = {name: f"no pictures could be made: {error}" for name, _ in self.sources}

    @staticmethod
    def transformers(dtype):
        peers.installed("transformers")
        return peers.Worker(places.REFERENCE_PYTHON, "transformers", places.DEMO, dtype)

    @staticmethod
    def mistralrs():
        """It reads configurations of transformers 4.x only: a copy of the directory with that one rewritten."""
        peers.installed("mistralrs")
        directory = places.WORK / "demo-4x"
        directory.mkdir(parents=True, exist_ok=True)
        for path in places.DEMO.iterdir():
            if path.is_file() and path.name != "config.json" and not (directory / path.name).exists():
                (directory / path.name).symlink_to(path)
        config = json.loads((places.DEMO / "config.json").read_text())
        checkpoints.write_json(directory / "config.json", checkpoints.make_random_model.old_style(config))
        return peers.Worker(places.PYTHON, "mistralrs", directory, answer_limit=90)

    def round(self, say):
        for name, start in self.sources:
            if name in self.reasons:
                continue
            try:
                running = start()
            except peers.Unavailable as unavailable:
                self.reasons[name] = str(unavailable)
                say(f"  demo model, {name}: {unavailable}")
                continue
            try:
                self.measure(running, self.samples[name])
            except Exception as error:  # whatever a peer does: its row tells it
                self.reasons[name] = f"{error}; it said: {running.said()}"
            finally:
                running.stop()
            if self.samples[name]["new"]:
                say(f"  demo model, {name}: first token {statistics.median(self.samples[name]['new']):.1f} ms")

    def measure(self, running, samples):
        running.ask(self.pictures.pop().read_bytes(), QUESTION, 4)
        for _ in range(self.per_round):
            data = self.pictures.pop().read_bytes()
            answer = running.ask(data, QUESTION, self.TOKENS)
            samples["new"].append(answer.first * 1e3)
            samples["decode"].append((answer.tokens - 1) / (answer.last - answer.first))
            samples["again"].append(running.ask(data, QUESTION, 4).first * 1e3)

    def tables(self):
        out = []
        for key, what, unit, better in (("new", "demo model: first token, new picture of 4 tiles", "ms", "low"),
                                        ("again", "demo model: first token, the same picture again", "ms", "low"),
                                        ("decode", "demo model: decode after a picture, one stream", "tok/s", "high")):
            rows = [{"name": name, "ours": name == "Tessera", "samples": samples[key], "reason": self.reasons.get(name, "not measured")}
                    for name, samples in self.samples.items()]
            out.append({"what": what, "unit": unit, "better": better, "rows": rows})
        for table in out:
            table["rows"] += absent(("OpenVINO", "llama.cpp"), "they know no Mllama: GGUF has no such architecture")
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
