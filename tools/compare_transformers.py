#!/usr/bin/env python3
"""Times transformers and a Tessera server on the demo model, in turn on the same machine, and prints medians and ratios.

Time to first token: picture file to first token, decoding, preprocessing, vision tower and prefill included, every picture
new. Decode: tokens a second after the first one, one stream. Both in one process each with all CPUs of the machine.
"""

import io
import json
import os
import re
import statistics
import subprocess
import sys
import time

import torch
import transformers
from PIL import Image

BIN = "build/release/bin"
MODEL = "models/demo"
QUESTION = "Describe the picture."
TOKENS = 64
RUNS = 7


def variants(path, count):
    """The same scene, one pixel changed each time, so that no cache knows it."""
    picture = Image.open(path).convert("RGB")
    for i in range(count):
        picture.putpixel((i, 0), (i, 255 - i, 7))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        yield buffer.getvalue()


class Reference:
    def __init__(self, dtype):
        self.model = transformers.MllamaForConditionalGeneration.from_pretrained(MODEL, dtype=dtype).eval()
        self.processor = transformers.AutoProcessor.from_pretrained(MODEL)

    def run(self, data, tokens):
        start = time.perf_counter()
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True)
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        inputs = self.processor(images=picture, text=text, add_special_tokens=False, return_tensors="pt")
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        with torch.no_grad():
            self.model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        return time.perf_counter() - start


class Server:
    def __init__(self):
        self.process = subprocess.Popen([f"{BIN}/tessera-server", "--model", MODEL, "--listen", "127.0.0.1:0", "--no-request-log"],
                                        stderr=subprocess.PIPE, text=True)
        self.address, self.tier = None, "?"
        for line in self.process.stderr:
            if match := re.search(r"tier (\w+)", line):
                self.tier = match[1]
            if match := re.search(r"listening on (\S+)", line):
                self.address = match[1]
                break
        if not self.address:
            sys.exit("the server did not start")
        subprocess.run([f"{BIN}/tessera", "--server", self.address, "health", "--wait", "30"], check=True, stdout=subprocess.DEVNULL)

    def run(self, data, tokens):
        command = [f"{BIN}/tessera", "--server", self.address, "generate", "--image", "-", "--prompt", QUESTION, "--json",
                   "--temperature", "0", "--ignore-eos", "--max-tokens", str(tokens)]
        done = subprocess.run(command, input=data, capture_output=True, check=True)
        return json.loads(done.stdout)["timings"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(os.cpu_count() or 1)
    picture = "models/demo/pictures/09-objects-2x2.png"
    reference, server = Reference(torch.float32), Server()
    try:
        reference.run(next(variants(picture, 1)), 4)
        rows = []
        pictures = list(variants(picture, 2 * RUNS + 1))
        server.run(pictures[-1], 4)
        for i in range(RUNS):
            first = reference.run(pictures[i], 1)
            whole = reference.run(pictures[i], TOKENS)
            ours = server.run(pictures[RUNS + i], TOKENS)
            again = server.run(pictures[RUNS + i], 4)
            rows.append((first, (TOKENS - 1) / (whole - first), ours["first_token"], (TOKENS - 1) / ours["decode"], again["first_token"]))
    finally:
        server.stop()
    median = [statistics.median(column) for column in zip(*rows)]
    print(f"demo model, picture of 4 tiles, medians of {RUNS}; transformers {transformers.__version__} with torch {torch.__version__} "
          f"in fp32, {os.cpu_count()} CPUs; Tessera on tier {server.tier}")
    print(f"                        transformers     Tessera   ratio")
    print(f"first token, new        {median[0] * 1e3:9.1f} ms {median[2] * 1e3:8.1f} ms {median[0] / median[2]:7.1f}")
    print(f"first token, repeated   {median[0] * 1e3:9.1f} ms {median[4] * 1e3:8.1f} ms {median[0] / median[4]:7.1f}")
    print(f"decode                  {median[1]:7.0f} /s   {median[3]:6.0f} /s   {median[3] / median[1]:7.1f}")


if __name__ == "__main__":
    main()
