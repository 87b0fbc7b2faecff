"""Writes a training checkpoint as a Hugging Face directory: bfloat16 weights, configuration, tokenizer, processor.

export.py --checkpoint build/demo_model/run/b.pt --out models/demo
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

import network
import optimizer
import sprites
import tokenizer as tokenizing

VERSION = "5.23.0"  # of transformers, whose field names these are


def config_json(c: network.Config, ids: dict[str, int]) -> dict:
    rope = {
        "rope_type": "llama3",
        "rope_theta": c.rope_theta,
        "factor": c.rope_factor,
        "low_freq_factor": c.rope_low,
        "high_freq_factor": c.rope_high,
        "original_max_position_embeddings": c.rope_original,
    }
    text = {
        "model_type": "mllama_text_model",
        "vocab_size": c.vocab,
        "hidden_size": c.width,
        "intermediate_size": c.mlp,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "cross_attention_layers": list(c.cross),
        "hidden_act": "silu",
        "rms_norm_eps": c.eps,
        "max_position_embeddings": 2048,
        "rope_parameters": rope,
        "tie_word_embeddings": False,
        "use_cache": True,
        "dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": ids["<|begin_of_text|>"],
        "eos_token_id": [ids["<|eot_id|>"], ids["<|end_of_text|>"]],
        "pad_token_id": ids["<|finetune_right_pad_id|>"],
    }
    vision = {
        "model_type": "mllama_vision_model",
        "image_size": c.tile,
        "patch_size": c.patch,
        "num_channels": 3,
        "max_num_tiles": c.max_tiles,
        "hidden_size": c.vision_width,
        "intermediate_size": c.vision_mlp,
        "attention_heads": c.vision_heads,
        "num_hidden_layers": c.local_layers,
        "num_global_layers": c.global_layers,
        "intermediate_layers_indices": list(c.intermediate),
        "vision_output_dim": c.vision_out,
        "hidden_act": "gelu",
        "norm_eps": c.eps,
        "supported_aspect_ratios": [list(r) for r in c.ratios],
        "initializer_range": 0.02,
    }
    return {
        "architectures": ["MllamaForConditionalGeneration"],
        "model_type": "mllama",
        "dtype": "bfloat16",
        "image_token_index": c.vocab,
        "tie_word_embeddings": False,
        "text_config": text,
        "vision_config": vision,
        "transformers_version": VERSION,
    }


def preprocessor_json(c: network.Config) -> dict:
    return {
        "image_processor_type": "MllamaImageProcessor",
        "processor_class": "MllamaProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_pad": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2,
        "rescale_factor": 1 / 255,
        "max_image_tiles": c.max_tiles,
        "size": {"height": c.tile, "width": c.tile},
    }


def tokenizer_json() -> dict:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "MllamaProcessor",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|finetune_right_pad_id|>",
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": tokenizing.TEMPLATE,
    }


def read_checkpoint(path: pathlib.Path, config: network.Config) -> dict[str, torch.Tensor]:
    """The model's parameters, float32, without the heads that only training needs."""
    state = torch.load(path, weights_only=True)
    import losses  # the checkpoint's layout includes the auxiliary heads

    store = optimizer.Store(network.parameter_shapes(config) | losses.auxiliary_shapes(config), 1, 0)
    if state["names"] != list(store.spans):
        raise ValueError(f"{path} belongs to another architecture")
    store.values.copy_(state["values"])
    return {n: store.view(store.values, n).clone() for n in store.spans if not n.startswith("auxiliary")}


def write(checkpoint: pathlib.Path, out: pathlib.Path) -> None:
    config = network.Config()
    parameters = read_checkpoint(checkpoint, config)
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {n: t.to(torch.bfloat16).contiguous() for n, t in parameters.items()},
        out / "model.safetensors",
        metadata={"format": "pt"},
    )
    made = tokenizing.Tokenizer.from_file(str(checkpoint.parent / "tokenizer.json"))
    made.save(str(out / "tokenizer.json"))
    ids = {t: made.token_to_id(t) for t in tokenizing.NAMED}
    generation = {
        "_from_model_config": False,
        "bos_token_id": ids["<|begin_of_text|>"],
        "do_sample": False,
        "eos_token_id": [ids["<|eot_id|>"], ids["<|end_of_text|>"]],
        "pad_token_id": ids["<|finetune_right_pad_id|>"],
        "transformers_version": VERSION,
    }
    for name, content in {
        "config.json": config_json(config, ids),
        "generation_config.json": generation,
        "preprocessor_config.json": preprocessor_json(config),
        "tokenizer_config.json": tokenizer_json(),
        "tessera.json": {"unseen_rows": "zero"},
    }.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n")
    (out / "chat_template.jinja").write_text(tokenizing.TEMPLATE)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {sum(t.numel() for t in parameters.values()):,} parameters, {size / 1e6:.1f} MB in all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, default=sprites.CACHE.parent / "run" / "b.pt")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    write(arguments.checkpoint, arguments.out)
