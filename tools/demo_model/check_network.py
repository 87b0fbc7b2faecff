"""Compares network.py and packing.py with transformers on the exported model: processor's pixels, prompt's ids, logits, greedy words.

check_network.py --model models/demo [--pictures 12]
"""

import argparse
import pathlib
import random
import sys

import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer

import network
import packing
import questions
import scenes
import sprites
import tokenizer as tokenizing
import zero_rows
from transformers import MllamaForConditionalGeneration, MllamaProcessor

TOLERANCE = 2e-3  # of logits of size about 20; both sides compute in float32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--pictures", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    zero_rows.patch()
    processor = MllamaProcessor.from_pretrained(args.model)
    reference = MllamaForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
    parameters = {n: t.float() for n, t in load_file(args.model / "model.safetensors").items()}
    config = network.Config()
    own = network.Network(config)
    art, text = sprites.load(), tokenizing.Text(Tokenizer.from_file(str(args.model / "tokenizer.json")))
    packer = packing.Packer(config, art, text)
    worst = worst_pixel = 0.0
    for i in range(args.pictures):
        rng = random.Random(f"check/{i}")
        canvas = list(scenes.CANVASES)[i % len(scenes.CANVASES)]
        scene = scenes.make_scene(rng, art, "objects" if i % 3 else "text", canvas)
        asked = questions.ask_some(rng, scene, 4)
        batch = packer.pack(rng, [scene], [asked], config.max_tiles)
        with torch.no_grad():
            states = own.vision(parameters, batch.pixels, batch.ratio_ids, batch.tile_counts)
            everything = torch.arange(batch.ids.numel())
            logits, _ = own.text(
                parameters, batch.ids, batch.positions, batch.mask, batch.sees, states, batch.tile_counts, everything
            )
        open_to = batch.mask[0, 0] == 0  # [L, L]: what each token sees
        for row in range(batch.ids.shape[1] - 1):
            chain = open_to[row].nonzero()[:, 0]
            last = row == len(open_to) - 1 or not open_to[row + 1, row]
            if not last or chain[-1] != row:
                continue
            ids = batch.ids[:, chain]
            marks = (ids == text.image).sum().item()
            if marks:
                inputs = processor(
                    images=[Image.fromarray(scene.pixels)],
                    text=processor.tokenizer.decode(ids[0]),
                    add_special_tokens=False,
                    return_tensors="pt",
                )
                worst_pixel = max(worst_pixel, (inputs["pixel_values"][0, 0] - batch.pixels[0]).abs().max().item())
                assert inputs["input_ids"].tolist() == ids.tolist(), (inputs["input_ids"], ids)
                assert inputs["aspect_ratio_ids"][0, 0] == batch.ratio_ids[0]
            else:
                inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            with torch.no_grad():
                expected = reference(**inputs).logits[0]
            worst = max(worst, (expected - logits[chain]).abs().max().item())
    print(f"{args.pictures} pictures: logits differ by {worst:.2e} at most, pixels by {worst_pixel:.2e}")
    return 0 if worst <= TOLERANCE and worst_pixel <= 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
