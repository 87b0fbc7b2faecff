#!/usr/bin/env python3
"""Hugging Face's tokenizer and image processor on one thread, as tessera-bench-prepare measures ours.

  worker_prepare.py --model DIR [--text FILE] [--picture FILE] [--repetitions N]      prints one JSON object
"""

import argparse
import json
import os
import time
import zlib

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1", OMP_NUM_THREADS="1")


def tokenize(args):
    import numpy
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # look-alikes of special tokens are text, as in a user's message
    with open(args.text, encoding="utf-8") as file:
        text = file.read()
    seconds = []
    for _ in range(args.repetitions):
        begin = time.process_time()
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        seconds.append(time.process_time() - begin)
    return {"seconds": seconds, "bytes": len(text.encode()), "tokens": len(ids),
            "digest": f"{zlib.crc32(numpy.array(ids, '<i4').tobytes()):08x}"}


def preprocess(args):
    import io
    import torch
    import transformers
    from PIL import Image, ImageOps
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    processor = transformers.AutoImageProcessor.from_pretrained(args.model)
    with open(args.picture, "rb") as file:
        data = file.read()
    seconds = []
    for _ in range(args.repetitions):
        begin = time.process_time()
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        values = processor(images=image, return_tensors="pt")["pixel_values"]
        seconds.append(time.process_time() - begin)
    return {"seconds": seconds, "values": values.numel(), "processor": type(processor).__name__,
            "digest": f"{zlib.crc32(values.contiguous().numpy().tobytes()):08x}"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--text")
    parser.add_argument("--picture")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    out = {}
    if args.text:
        out["tokenize"] = tokenize(args)
    if args.picture:
        out["preprocess"] = preprocess(args)
    print(json.dumps(out))


main()
