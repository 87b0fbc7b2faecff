#!/usr/bin/env python3
"""Writes the picture goldens of tests/media/data with Pillow and transformers (docs/fidelity.md has the format).

usage: make_image_cases.py [OUTPUT_DIR]

OUTPUT_DIR/pictures/          the files
OUTPUT_DIR/decoded.json       what each holds, by Pillow
OUTPUT_DIR/refused.json       {"images": {FILE: {"why", "pillow": "refuses" or "takes"}}}: must give an error
OUTPUT_DIR/expected.json      what image processors make of them, with expected_u8.safetensors
OUTPUT_DIR/resize.json        CRCs of Image.resize over sizes and filters
The environment is tools/reference_venv.sh's; the same versions write the same bytes.
"""

import io
import json
import pathlib
import random
import sys
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from broken_pictures import broken, mutated  # noqa: E402
from picture_cases import pattern, readable, save  # noqa: E402

warnings.simplefilter("ignore")
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
OPENAI = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])

# Mutated files that Pillow takes although coded data is missing: libjpeg warns and paints the rest grey.
INCOMPLETE = {"mutated_014.jpg"}

# (width, height) of the pictures that the processors see.
SIZES = [(1, 1), (1, 2), (2, 1), (1, 5000), (5000, 1), (2, 999), (3, 1000), (1009, 2), (7, 7), (13, 17), (20, 20), (40, 20), (20, 40),
         (41, 20), (20, 41), (60, 20), (80, 20), (20, 80), (81, 19), (33, 70), (97, 89), (89, 97), (101, 31), (31, 101), (64, 64), (128, 9),
         (150, 100), (100, 151), (211, 37), (19, 223)]

PROCESSORS = {
    "mllama_tile20": (MllamaImageProcessorPil, {"size": {"height": 20, "width": 20}, "max_image_tiles": 4, "resample": 2, "image_mean": OPENAI[0], "image_std": OPENAI[1]}, True),
    "mllama_bicubic_8tiles": (MllamaImageProcessorPil, {"size": {"height": 14, "width": 14}, "max_image_tiles": 8, "resample": 3, "image_mean": IMAGENET[0], "image_std": IMAGENET[1]}, True),
    "mllama_lanczos_1tile": (MllamaImageProcessorPil, {"size": 33, "max_image_tiles": 1, "resample": 1}, False),
    "mllama_nearest_raw": (MllamaImageProcessorPil, {"size": [17, 17], "max_image_tiles": 6, "resample": 0, "do_rescale": False, "do_normalize": False}, False),
    "mllama_no_normalize": (MllamaImageProcessorPil, {"size": {"height": 18, "width": 18}, "resample": 4, "do_normalize": False, "rescale_factor": 0.007}, False),
    "mllama_no_rescale": (MllamaImageProcessorPil, {"size": {"height": 18, "width": 18}, "resample": 5, "do_rescale": False, "image_mean": 100.5, "image_std": 57.25}, False),
    "clip": (CLIPImageProcessorPil, {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}, True),
    "clip_int_sizes": (CLIPImageProcessorPil, {"size": 20, "crop_size": 31, "resample": 2}, False),
    "clip_no_resize": (CLIPImageProcessorPil, {"do_resize": False, "crop_size": {"height": 22, "width": 27}}, False),
    "clip_no_crop": (CLIPImageProcessorPil, {"size": {"height": 21, "width": 15}, "do_center_crop": False, "resample": 1}, False),
    "vit": (ViTImageProcessorPil, {"size": {"height": 19, "width": 23}}, True),
}


def load_image(data):
    """transformers' load_image on bytes; also the file's format, mode and whether it is animated."""
    image = Image.open(io.BytesIO(data))
    about = (image.format, image.mode, getattr(image, "is_animated", False))
    image.load()
    return ImageOps.exif_transpose(image).convert("RGB"), about


def decoded_entry(name, data):
    image, (kind, mode, animated) = load_image(data)
    pixels = np.asarray(image)
    rng = random.Random(zlib.crc32(name.encode()))
    places = [[rng.randrange(image.width), rng.randrange(image.height)] for _ in range(8)]
    lossless = kind == "PNG" or (kind == "WEBP" and b"VP8L" in data)
    return {"format": kind, "pil_mode": mode, "wh": list(image.size), "crc32_rgb": zlib.crc32(pixels.tobytes()), "lossless": lossless,
            "mean_rgb": [round(float(m), 6) for m in pixels.reshape(-1, 3).mean(0)], "sample_xy": places,
            "sample_rgb": [pixels[y, x].tolist() for x, y in places],
            "animated": animated and kind != "MPO"}  # the other pictures of an MPO are no frames


def uint8_tiles(processor, image):
    """The picture before rescaling, [tiles, 3, h, w], of the used tiles."""
    values = processor(images=image, return_tensors="np", do_rescale=False, do_normalize=False)
    pixels = values["pixel_values"][0]
    if pixels.ndim == 5:
        return pixels[0][:values["num_tiles"][0][0]].astype(np.uint8)
    return pixels[None].astype(np.uint8)


def processor_entry(processor, image, name):
    values = processor(images=image, return_tensors="np")
    pixels = values["pixel_values"].astype(np.float32)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    index = np.unique(np.concatenate([[0, pixels.size - 1], rng.integers(0, pixels.size, 62)]))[:64]
    entry = {"shape": list(pixels.shape)}
    for key in ("aspect_ratio_ids", "aspect_ratio_mask"):
        if key in values:
            entry[key] = np.asarray(values[key]).tolist()
    if "num_tiles" in values:
        entry["num_tiles"] = [list(map(int, row)) for row in values["num_tiles"]]
    wide = pixels.astype(np.float64)
    entry |= {"mean": float(wide.mean()), "std": float(wide.std()), "min": float(pixels.min()), "max": float(pixels.max()),
              "index": index.tolist(), "value": [round(float(v), 6) for v in pixels.reshape(-1)[index]]}
    return entry


def write_processors(out, pictures):
    expected, tensors = {}, {}
    for title, (kind, config, with_u8) in PROCESSORS.items():
        processor = kind(**config)
        config_name = f"{title}.preprocessor_config.json"
        hf_class = kind.__name__.removesuffix("Pil")
        (out / config_name).write_text(json.dumps({"image_processor_type": hf_class, **config}, indent=1) + "\n")
        images = {}
        for name, data in pictures.items():
            image = load_image(data)[0]
            if title == "clip_no_crop" or max(image.size) < 400 or kind is not CLIPImageProcessorPil:
                entry = processor_entry(processor, image, title + name)
                if with_u8:
                    key = f"{title}/{name}"
                    tensors[key] = np.ascontiguousarray(uint8_tiles(processor, image))
                    entry["u8"] = key
                images[name] = entry
        expected[title] = {"config": config_name, "hf_class": hf_class, "images": images}
    expected["not_known"] = {"config": "clip.preprocessor_config.json", "hf_class": "SomeOtherImageProcessor", "images": {}}
    (out / "expected.json").write_text(json.dumps(expected, indent=0) + "\n")
    save_file(tensors, out / "expected_u8.safetensors")
    (out / "expected_u8.safetensors").chmod(0o644)


def write_resizes(out):
    rng = random.Random(7)
    special = [(1, 1, 5, 3), (1, 5000, 20, 40), (5000, 1, 80, 20), (1, 5000, 1, 80), (3, 2000, 560, 7), (2000, 3, 7, 560), (97, 89, 97, 31),
               (97, 89, 31, 89), (97, 89, 97, 89), (30, 200, 29, 50), (100, 100, 200, 50), (16, 100000, 3, 2)]
    cases = []
    for i in range(300):
        if i < 6 * len(special):
            width, height, to_width, to_height = special[i // 6]
        else:
            width, height, to_width, to_height = (rng.choice((rng.randint(1, 9), rng.randint(1, 300))) for _ in range(4))
        pixels = pattern_for_resize(width, height, i)
        result = np.asarray(Image.fromarray(pixels).resize((to_width, to_height), i % 6))
        cases.append([width, height, i, to_width, to_height, i % 6, zlib.crc32(result.tobytes())])
    (out / "resize.json").write_text(json.dumps({"columns": ["width", "height", "seed", "to_width", "to_height", "resample", "crc32"],
                                                 "cases": cases}).replace("], [", "],\n[") + "\n")


def pattern_for_resize(width, height, seed):
    """Bytes that C++ can make too: the high byte of a 32-bit linear congruential sequence, every third case black or white."""
    count = width * height * 3
    # x_k = a^k x_0 + c (a^k - 1) / (a - 1) modulo 2^32, by doubling
    state, values, a, c = np.uint64(seed), np.zeros(count, np.uint64), 1664525, 1013904223
    values[0] = (int(state) * a + c) % 2**32
    filled, step_a, step_c = 1, a, c
    while filled < count:
        take = min(filled, count - filled)
        values[filled:filled + take] = (values[:take] * np.uint64(step_a) + np.uint64(step_c)) % np.uint64(2**32)
        step_a, step_c = step_a * step_a % 2**32, (step_a * step_c + step_c) % 2**32
        filled += take
    out = (values >> np.uint64(24)).astype(np.uint8)
    if seed % 3 == 0:
        out = np.where(out >= 128, 255, 0).astype(np.uint8)
    return out.reshape(height, width, 3)


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "tests/media/data")
    pictures_dir = out / "pictures"
    pictures_dir.mkdir(parents=True, exist_ok=True)
    for old in pictures_dir.iterdir():
        old.unlink()
    decoded, refused = {}, {}

    def put(name, data, why=None):
        (pictures_dir / name).write_bytes(data)
        try:
            entry = decoded_entry(name, data)
        except Exception:
            entry = None
        if why is None and entry is not None:
            decoded[name] = entry
        else:
            refused[name] = {"why": why or "any", "pillow": "refuses" if entry is None else "takes"}

    for name, data in readable().items():
        put(name, data)
    geometry = {f"size_{w}x{h}.png": save(Image.fromarray(pattern(w, h, i)), "PNG", compress_level=9) for i, (w, h) in enumerate(SIZES)}
    for name, data in geometry.items():
        put(name, data)
    for name, (data, why) in broken().items():
        put(name, data, None if name.startswith("cut_") else why)  # a cut may take the end chunk alone
    for name, data in mutated(40).items():
        put(name, data, "incomplete" if name in INCOMPLETE else None)
    (out / "decoded.json").write_text(json.dumps({"images": decoded}).replace("}, ", "},\n") + "\n")
    (out / "refused.json").write_text(json.dumps({"images": refused}).replace("}, ", "},\n") + "\n")
    names = ["orient_6.jpg", "orient_5.png", "png_hidden_colours.png", "jpeg_cmyk_p0_17x13.jpg", "png_c0_d16_i1_13x11.png", "webp_animated.webp"]
    write_processors(out, geometry | {n: (pictures_dir / n).read_bytes() for n in names})
    write_resizes(out)
    print(f"{len(decoded)} pictures, {len(refused)} refusals")


if __name__ == "__main__":
    main()
