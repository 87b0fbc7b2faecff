#!/usr/bin/env python3
"""Writes Hugging Face directories of models with random weights.

  make_random_model.py --list
  make_random_model.py --tiny NAME --out DIR      odd small configurations (tools/golden/model_cases.py), for goldens;
                                                  needs the reference environment (tools/reference_venv.sh)
  make_random_model.py --shape NAME --out DIR     real shapes for benches, written as a stream; plain Python is enough

  make_random_model.py --shape NAME --out DIR --fast   as fast as the disk takes it: one block of random numbers over and
                                                  over, each tensor from another place of it; shards of 4 GB

Equal arguments give equal bytes.
"""
import argparse
import json
import os
import random
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from golden import model_cases, tiny_tokenizer  # noqa: E402

LLAMA3_ROPE = dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=8192)
SHAPES = {
    "llama-135m": dict(hidden=576, ff=1536, layers=30, heads=9, kv=3, head_dim=64, vocab=49152, tied=True, cross=[]),
    "llama-1b": dict(hidden=2048, ff=8192, layers=16, heads=32, kv=8, head_dim=64, vocab=128256, tied=True, cross=[]),
    "llama-3b": dict(hidden=3072, ff=8192, layers=28, heads=24, kv=8, head_dim=128, vocab=128256, tied=True, cross=[]),
    "llama-8b": dict(hidden=4096, ff=14336, layers=32, heads=32, kv=8, head_dim=128, vocab=128256, tied=False, cross=[]),
    "mllama-11b": dict(hidden=4096, ff=14336, layers=40, heads=32, kv=8, head_dim=128, vocab=128256, tied=False,
                       cross=[3, 8, 13, 18, 23, 28, 33, 38]),
}
VISION_11B = dict(hidden_size=1280, attention_heads=16, intermediate_size=5120, num_hidden_layers=32, num_global_layers=8,
                  image_size=560, patch_size=14, max_num_tiles=4, intermediate_layers_indices=[3, 7, 15, 23, 30],
                  vision_output_dim=7680, norm_eps=1e-5, hidden_act="gelu", num_channels=3,
                  supported_aspect_ratios=[[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]])


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")


def write_image_processor(directory, size, tiles):
    write_json(os.path.join(directory, "preprocessor_config.json"), {
        "image_processor_type": "MllamaImageProcessor", "processor_class": "MllamaProcessor", "do_convert_rgb": True,
        "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True, "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28], "max_image_tiles": tiles, "resample": 2, "rescale_factor": 1 / 255,
        "size": {"height": size, "width": size}})


# ---- Tiny models, with the reference's own classes ---------------------------------------------------------------

def old_style(config):
    """The same config as transformers 4.x wrote it."""
    for part in [config] + [config[key] for key in ("text_config",) if key in config]:
        rope = part.pop("rope_parameters", None)
        if rope:
            part["rope_theta"] = rope.pop("rope_theta")
            part["rope_scaling"] = rope if rope.get("rope_type") != "default" else None
        if "dtype" in part:
            part["torch_dtype"] = part.pop("dtype")
    return config


def draw_pictures(directory, seed):
    from PIL import Image, ImageDraw
    for name, (width, height) in {"tall": (17, 52), "wide": (60, 25), "square": (44, 41), "small": (9, 12)}.items():
        draw = random.Random(f"{seed} {name}")
        picture = Image.new("RGB", (width, height), tuple(draw.randrange(256) for _ in range(3)))
        pen = ImageDraw.Draw(picture)
        for _ in range(6):
            x, y = draw.randrange(width), draw.randrange(height)
            pen.ellipse([x - 6, y - 4, x + 6, y + 4], fill=tuple(draw.randrange(256) for _ in range(3)))
        picture.save(os.path.join(directory, name + ".png"))


def module_tree_name(name):
    """Hub name -> name in the module tree of transformers since 4.52."""
    if name.startswith("language_model.model."):
        return "model.language_model." + name[len("language_model.model."):]
    if name.startswith("language_model."):
        return name[len("language_model."):]
    return "model." + name


def write_tiny(name, out):
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import (LlamaConfig, LlamaForCausalLM, MllamaConfig, MllamaForConditionalGeneration)
    case = model_cases.MODELS[name]
    torch.manual_seed(case["seed"])
    dtype = getattr(torch, case["dtype"])
    if case["family"] == "mllama":
        config = MllamaConfig(text_config=case["text"], vision_config=case["vision"],
                              image_token_index=tiny_tokenizer.ids()[tiny_tokenizer.IMAGE])
        model = MllamaForConditionalGeneration(config)
    else:
        config = LlamaConfig(**case["text"])
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.dim() == 1 and ("norm" in key and key.endswith("weight")):
                weight.copy_(1 + 0.2 * torch.randn_like(weight))
            elif weight.numel() == 1:
                weight.fill_(random.Random(f"{name} {key}").uniform(0.4, 1.2))  # gates, well away from zero
            elif "embedding" in key or "embed_tokens" in key:
                weight.normal_(0, 0.7)
            else:
                weight.normal_(0, 1.1 / weight.shape[-1] ** 0.5 if weight.dim() > 1 else 0.1)
    model.to(dtype).save_pretrained(out)
    path = os.path.join(out, "model.safetensors")
    tensors = load_file(path)
    if case.get("layout") == "module-tree":
        tensors = {module_tree_name(key): value for key, value in tensors.items()}
        save_file(tensors, path, metadata={"format": "pt"})
    if case.get("shards"):
        os.remove(path)
        weight_map = {}
        for shard in range(case["shards"]):
            file = f"model-{shard + 1:05d}-of-{case['shards']:05d}.safetensors"
            part = {key: tensors[key] for key in sorted(tensors)[shard::case["shards"]]}
            save_file(part, os.path.join(out, file), metadata={"format": "pt"})
            weight_map.update({key: file for key in part})
        write_json(path + ".index.json", {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))})
    config_path = os.path.join(out, "config.json")
    with open(config_path, encoding="utf-8") as file:
        written = json.load(file)
    write_json(config_path, old_style(written) if case.get("config") == "4.x" else written)
    tiny_tokenizer.write(out, case["family"])
    if case["family"] == "mllama":
        write_image_processor(out, case["vision"]["image_size"], case["vision"]["max_num_tiles"])
        draw_pictures(out, case["seed"])
    for file in os.listdir(out):
        os.chmod(os.path.join(out, file), 0o644)  # save_file makes them private
    write_json(os.path.join(out, "cases.json"), {
        "model": name, "family": case["family"], "weights_dtype": case["dtype"], "may_be_refused": None,
        **({"unseen_rows": "attend"} if case["family"] == "mllama" else {}),
        "max_new_tokens": 6, "ignore_eos": True, "add_special_tokens": False, "date_string": "26 Jul 2024",
        "cases": model_cases.requests(name)})


# ---- Real shapes, streamed -----------------------------------------------------------------------------------------

def text_tensors(shape, prefix, head):
    c, ff, d = shape["hidden"], shape["ff"], shape["head_dim"]
    q, kv = shape["heads"] * d, shape["kv"] * d
    rows = shape["vocab"] + (8 if shape["cross"] else 0)
    yield prefix + "embed_tokens.weight", [rows, c]
    for layer in range(shape["layers"]):
        at = f"{prefix}layers.{layer}."
        yield at + "input_layernorm.weight", [c]
        kind = "cross_attn" if layer in shape["cross"] else "self_attn"
        yield from ((f"{at}{kind}.{part}_proj.weight", dims)
                    for part, dims in (("q", [q, c]), ("k", [kv, c]), ("v", [kv, c]), ("o", [c, q])))
        if kind == "cross_attn":
            yield from ((at + "cross_attn.q_norm.weight", [d]), (at + "cross_attn.k_norm.weight", [d]),
                        (at + "cross_attn_attn_gate", [1]), (at + "cross_attn_mlp_gate", [1]))
        yield at + "post_attention_layernorm.weight", [c]
        yield from ((f"{at}mlp.{part}_proj.weight", dims)
                    for part, dims in (("gate", [ff, c]), ("up", [ff, c]), ("down", [c, ff])))
    yield prefix + "norm.weight", [c]
    if not shape["tied"]:
        yield head, [shape["vocab"], c]


def vision_tensors(v, text_hidden):
    c, ff, tokens = v["hidden_size"], v["intermediate_size"], (v["image_size"] // v["patch_size"]) ** 2 + 1
    ids, tiles = len(v["supported_aspect_ratios"]) + 1, v["max_num_tiles"]
    at = "vision_model."
    yield at + "patch_embedding.weight", [c, 3, v["patch_size"], v["patch_size"]]
    yield at + "class_embedding", [c]
    yield at + "gated_positional_embedding.embedding", [tokens, c]
    yield at + "gated_positional_embedding.gate", [1]
    yield at + "gated_positional_embedding.tile_embedding.weight", [ids, tiles * tokens * c]
    for side in ("pre", "post"):
        yield f"{at}{side}_tile_positional_embedding.embedding.weight", [ids, tiles * c]
        yield f"{at}{side}_tile_positional_embedding.gate", [1]
        yield f"{at}layernorm_{side}.weight", [c]
        yield f"{at}layernorm_{side}.bias", [c]
    for encoder, count in (("transformer", v["num_hidden_layers"]), ("global_transformer", v["num_global_layers"])):
        for layer in range(count):
            here = f"{at}{encoder}.layers.{layer}."
            for norm in ("input_layernorm", "post_attention_layernorm"):
                yield f"{here}{norm}.weight", [c]
                yield f"{here}{norm}.bias", [c]
            yield from ((f"{here}self_attn.{part}_proj.weight", [c, c]) for part in "qkvo")
            yield from ((here + "mlp.fc1.weight", [ff, c]), (here + "mlp.fc1.bias", [ff]),
                        (here + "mlp.fc2.weight", [c, ff]), (here + "mlp.fc2.bias", [c]))
            if encoder == "global_transformer":
                yield here + "gate_attn", [1]
                yield here + "gate_ffn", [1]
    yield "multi_modal_projector.weight", [text_hidden, v["vision_output_dim"]]
    yield "multi_modal_projector.bias", [text_hidden]


# High byte of a bf16: sign and exponent. Magnitudes in [2^-9, 2^-5), half of them above 2^-7.
_HIGH_BYTES = bytes([0x3C, 0xBC, 0x3B, 0xBB][i % 4] for i in range(256))


def random_bf16(draw, count):
    data = bytearray(2 * count)
    data[0::2] = draw.randbytes(count)
    data[1::2] = draw.randbytes(count).translate(_HIGH_BYTES)
    return data


def size_of(dims):
    size = 2
    for extent in dims:
        size *= extent
    return size


class RepeatedBlock:
    """Random numbers without end from one block. Its length is prime, so that rows of a matrix are not equal."""

    NUMBERS = 16777213

    def __init__(self, seed):
        self.block = memoryview(bytes(random_bf16(random.Random(f"{seed} block"), self.NUMBERS)))

    def write(self, file, name, count):
        at = 2 * random.Random(name).randrange(self.NUMBERS)
        left = 2 * count
        while left > 0:
            piece = self.block[at:at + left]
            file.write(piece)
            left, at = left - len(piece), 0


def stream_shards(out, tensors, seed, shard_bytes=4 << 30):
    shards, filled = [[]], 0
    for name, dims in tensors:
        if shards[-1] and filled + size_of(dims) > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append((name, dims))
        filled += size_of(dims)
    block, places = RepeatedBlock(seed), {}
    for number, shard in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        stream_safetensors(os.path.join(out, file), shard, seed, block)
        places.update((name, file) for name, _ in shard)
    write_json(os.path.join(out, "model.safetensors.index.json"),
               {"metadata": {"total_size": sum(size_of(dims) for _, dims in tensors)}, "weight_map": places})


def stream_safetensors(path, tensors, seed, repeated=None):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dims in tensors:
        size = size_of(dims)
        header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    block = 1 << 24
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, dims in tensors:
            left = (header[name]["data_offsets"][1] - header[name]["data_offsets"][0]) // 2
            ones = len(dims) == 1 and "norm" in name and name.endswith("weight")
            if repeated and not ones:
                repeated.write(file, name, left)
                continue
            draw = random.Random(f"{seed} {name}")
            while left > 0:
                count = min(left, block)
                file.write(b"\x80\x3f" * count if ones else random_bf16(draw, count))
                left -= count


def write_shape(name, out, seed, fast):
    shape = SHAPES[name]
    text = {"hidden_size": shape["hidden"], "intermediate_size": shape["ff"], "num_hidden_layers": shape["layers"],
            "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv"], "vocab_size": shape["vocab"],
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "hidden_act": "silu",
            "bos_token_id": min(128000, shape["vocab"] - 2), "eos_token_id": min(128001, shape["vocab"] - 1),
            "rope_parameters": {**LLAMA3_ROPE, "rope_theta": 500000.0},
            "tie_word_embeddings": shape["tied"]}
    if shape["cross"]:
        config = {"architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama", "dtype": "bfloat16",
                  # Not the first id beyond the head, as in the released models: the tokenizer is the small one
                  "image_token_index": tiny_tokenizer.ids()[tiny_tokenizer.IMAGE], "vision_config": VISION_11B,
                  "text_config": {**text, "cross_attention_layers": shape["cross"]}}
        tensors = list(text_tensors(shape, "language_model.model.", "language_model.lm_head.weight"))
        tensors += vision_tensors(VISION_11B, shape["hidden"])
        write_image_processor(out, VISION_11B["image_size"], VISION_11B["max_num_tiles"])
    else:
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
                  "head_dim": shape["head_dim"], **text}
        tensors = list(text_tensors(shape, "model.", "lm_head.weight"))
    write_json(os.path.join(out, "config.json"), config)
    tiny_tokenizer.write(out, "mllama" if shape["cross"] else "llama")
    if fast:
        stream_shards(out, tensors, seed)
    else:
        stream_safetensors(os.path.join(out, "model.safetensors"), tensors, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="print the names")
    what.add_argument("--tiny", choices=sorted(model_cases.MODELS))
    what.add_argument("--shape", choices=sorted(SHAPES))
    parser.add_argument("--out", help="directory; made if it is not there")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fast", action="store_true", help="with --shape: repeat a block of random numbers")
    args = parser.parse_args()
    if args.list:
        print("tiny: ", *sorted(model_cases.MODELS))
        print("shape:", *sorted(SHAPES))
        return
    if not args.out:
        parser.error("--out is needed")
    os.makedirs(args.out, exist_ok=True)
    if args.tiny:
        write_tiny(args.tiny, args.out)
    else:
        write_shape(args.shape, args.out, args.seed, args.fast)


if __name__ == "__main__":
    main()
