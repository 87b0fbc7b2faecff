#!/usr/bin/env python3
"""Makes goldens: what the reference (Hugging Face transformers, float32, CPU) computes for the cases of a checkpoint.

  make_golden.py --model DIR [--cases FILE] [--only ID,ID] [--out DIR2] [--unseen-rows attend|zero] [--big-tensors all|cover|none]
                 [--keep NAME=ID,ID ...]
  make_golden.py --check DIR2 [--model DIR]

The first form reads the cases (DIR/cases.json; only id, kind and messages, text or ids are needed), runs them, and writes
DIR2/cases.json and DIR2/golden.safetensors (DIR2 is DIR unless given; paths of images are kept valid). The second runs the
cases of an existing golden again and compares: exit code 1 where the reference has changed. docs/fidelity.md has the format.

`--unseen-rows zero`: rows that see no picture get nothing from cross-attention layers, as mllama was trained; stock
transformers lets them attend to every picture.
"""
import argparse
import json
import os
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.image_utils import load_image
from transformers.models.mllama import processing_mllama

EXACT = {"input_ids", "aspect_ratio_ids", "aspect_ratio_mask", "cross_attention_mask", "greedy_ids", "greedy_second_ids"}
BIG = {"pixel_values", "vision_hidden", "projected"}


# ---- Inputs of a case ----------------------------------------------------------------------------------------------

class Prompts:
    """Template, tokenizer and image processor of a directory, as a user of transformers gets them."""

    def __init__(self, directory, spec):
        self.spec = spec
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        self.processor = None
        if spec["family"] == "mllama":
            self.processor = transformers.AutoProcessor.from_pretrained(directory)

    def render(self, case):
        if case["kind"] == "text":
            return case["text"]
        owner = self.tokenizer if self.processor is None else self.processor
        return owner.apply_chat_template(case["messages"], add_generation_prompt=True, tokenize=False,
                                         date_string=self.spec["date_string"])

    def inputs(self, case, base):
        """The model's inputs, one batch item; sets case["rendered"]."""
        specials = case.get("add_special_tokens", self.spec["add_special_tokens"])
        images = [load_image(os.path.join(base, path)) for path in case.get("images") or []]
        if case["kind"] == "ids":
            inputs = {"input_ids": torch.tensor([case["ids"]])}
        else:
            case["rendered"] = self.render(case)
            text = case["rendered"]
            if self.processor is not None:
                text = processing_mllama.build_string_from_input(text, self.processor.bos_token,
                                                                 self.processor.image_token)
            ids = self.tokenizer(text, add_special_tokens=specials)["input_ids"]
            inputs = {"input_ids": torch.tensor([ids])}
        if images:
            inputs.update(self.pictures(images, inputs["input_ids"][0].tolist()))
        return inputs

    def pictures(self, images, ids):
        made = self.processor.image_processor([images], return_tensors="pt")
        num_tiles = made.pop("num_tiles")
        sparse = processing_mllama.get_cross_attention_token_mask(ids, self.processor.image_token_id)
        if len(sparse) != len(images):
            raise ValueError(f"{len(sparse)} image marks, {len(images)} images")
        dense = processing_mllama.convert_sparse_cross_attention_mask_to_dense(
            [sparse], num_tiles=num_tiles, max_num_tiles=self.processor.image_processor.max_image_tiles, length=len(ids))
        return {**{key: made[key] for key in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")},
                "cross_attention_mask": torch.from_numpy(dense)}


# ---- The model -----------------------------------------------------------------------------------------------------

def load_model(directory, family, dtype):
    cls = {"mllama": transformers.MllamaForConditionalGeneration, "llama": transformers.LlamaForCausalLM}[family]
    model = cls.from_pretrained(directory, dtype=dtype, attn_implementation="eager")
    return model.eval()


def zero_unseen_rows(model):
    """Rows whose cross-attention mask is empty get no attention output, as in the code mllama was trained with."""
    seen = {}

    def remember(_module, _args, kwargs):
        seen["rows"] = kwargs.get("full_text_row_masked_out_mask")

    def clear(_module, _args, output):
        if seen["rows"] is None:
            return output
        return (output[0] * seen["rows"][:, 0].to(output[0].dtype), *output[1:])

    for layer in model.model.language_model.layers:
        if hasattr(layer, "cross_attn"):
            layer.register_forward_pre_hook(remember, with_kwargs=True)
            layer.cross_attn.register_forward_hook(clear)


class Runner:
    def __init__(self, directory, spec, dtype):
        self.family = spec["family"]
        self.model = load_model(directory, self.family, dtype)
        self.dtype = dtype
        self.captured = {}
        if self.family == "mllama":
            if spec.get("unseen_rows") == "zero":
                zero_unseen_rows(self.model)
            inner = self.model.model
            inner.vision_model.register_forward_hook(
                lambda _m, _a, out: self.captured.update(vision_hidden=out.last_hidden_state))
            inner.multi_modal_projector.register_forward_hook(
                lambda _m, _a, out: self.captured.update(projected=out))

    def ends(self):
        config = self.model.generation_config
        ids = config.eos_token_id
        return set(ids if isinstance(ids, list) else [ids] if ids is not None else [])

    @torch.no_grad()
    def run(self, inputs, steps, ignore_eos):
        inputs = dict(inputs)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        length = inputs["input_ids"].shape[1]
        self.captured.clear()
        cache = transformers.DynamicCache(config=self.model.config.get_text_config())
        # Positions are given: the cache counts them in its first layer, which may be a cross-attention layer
        out = self.model(**inputs, past_key_values=cache, use_cache=True,
                         position_ids=torch.arange(length).unsqueeze(0))
        result = {name: value[0].float() for name, value in self.captured.items()}
        result["logits"] = out.logits[0].float()
        last, mask = out.logits[0, -1].float(), inputs.get("cross_attention_mask")
        ids, seconds, margins = [], [], []
        for step in range(steps):
            best = torch.topk(last, 2)
            ids.append(int(best.indices[0]))
            seconds.append(int(best.indices[1]))
            margins.append(float(best.values[0] - best.values[1]))
            result["greedy_last_logits"] = last
            if step == steps - 1 or (not ignore_eos and ids[-1] in self.ends()):
                break
            more = {} if mask is None else {"cross_attention_mask": mask[:, -1:]}
            at = length + step
            last = self.model(input_ids=torch.tensor([[ids[-1]]]), past_key_values=cache, use_cache=True,
                              position_ids=torch.tensor([[at]]), attention_mask=self.causal(at + 1),
                              **more).logits[0, -1].float()
        result["greedy_ids"] = torch.tensor(ids)
        result["greedy_second_ids"] = torch.tensor(seconds)
        result["greedy_margin"] = torch.tensor(margins)
        return result

    def causal(self, keys):
        """One query that sees all keys. Given whole, so that no length is read from a cross-attention layer's cache."""
        return torch.zeros(1, 1, 1, keys, dtype=self.dtype)


# ---- Goldens -------------------------------------------------------------------------------------------------------

def squeeze(inputs):
    return {name: value[0] for name, value in inputs.items()}


def parse_keeps(options):
    """{"logits": {"one", "two"}} of ["logits=one,two"]."""
    keeps = {}
    for option in options:
        name, _, ids = option.partition("=")
        keeps[name] = {case for case in ids.split(",") if case}
    return keeps


def make(model_dir, spec, base, big, keeps):
    tensors, prompts = {}, Prompts(model_dir, spec)
    inputs = {}
    for case in spec["cases"]:
        inputs[case["id"]] = prompts.inputs(case, base)
        case["prompt_tokens"] = inputs[case["id"]]["input_ids"].shape[1]
    keeps_big, kept = set(), set()
    for case in spec["cases"]:
        pictures = set(case.get("images") or [])
        if big == "all" or (big == "cover" and not pictures <= kept):
            keeps_big.add(case["id"])
            kept |= pictures
    for suffix, dtype in (("", torch.float32), ("_bf16", torch.bfloat16)):
        runner = Runner(model_dir, spec, dtype)
        for case in spec["cases"]:
            result = runner.run(inputs[case["id"]], spec["max_new_tokens"], spec["ignore_eos"])
            if suffix:
                for name in ("greedy_second_ids", "greedy_last_logits"):
                    result.pop(name)
            else:
                result.update(squeeze(inputs[case["id"]]))
            for name, value in result.items():
                if name in keeps:
                    if case["id"] not in keeps[name]:
                        continue
                elif name in BIG and case["id"] not in keeps_big:
                    continue
                tensors[f"{case['id']}.{name}{suffix}"] = value.contiguous()
    return {name: value if value.is_floating_point() else value.to(torch.int64) for name, value in tensors.items()}


def compare(old, new):
    """Lines that say what differs beyond rounding."""
    lines = [f"{name}: only in the {'old' if name in old else 'new'} golden" for name in sorted(old.keys() ^ new.keys())]
    for name in sorted(old.keys() & new.keys()):
        a, b = old[name], new[name]
        stem = name.split(".", 1)[1]
        if a.shape != b.shape:
            lines.append(f"{name}: shape {tuple(a.shape)}, now {tuple(b.shape)}")
        elif stem in EXACT and not torch.equal(a, b):
            lines.append(f"{name}: differs")
        elif a.is_floating_point() and not stem.endswith("_bf16"):
            # A tenth of the bound that tessera-verify holds the engine to
            error, scale = (a - b).abs().max().item(), max(a.std().item() if a.numel() > 1 else 1.0, 1e-6)
            if not error <= 2e-5 * max(scale, 1.0 if stem == "greedy_margin" else scale):
                lines.append(f"{name}: largest difference {error:.3g}, standard deviation {scale:.3g}")
    return lines


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="the checkpoint's directory")
    parser.add_argument("--cases", help="default: cases.json of --model")
    parser.add_argument("--out", help="default: --model")
    parser.add_argument("--unseen-rows", choices=["attend", "zero"])
    parser.add_argument("--only", help="ids of the cases to keep, with commas between")
    parser.add_argument("--big-tensors", choices=["all", "cover", "none"], default="all",
                        help="which cases keep pixel_values, vision_hidden and projected; cover: each picture once")
    parser.add_argument("--keep", metavar="NAME=ID,ID", action="append", default=[],
                        help="keep this tensor (logits, say) of these cases alone, whatever --big-tensors says")
    parser.add_argument("--check", metavar="DIR2", help="compare with this golden instead of writing one")
    args = parser.parse_args()
    torch.set_num_threads(min(2, len(os.sched_getaffinity(0))))
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()

    source = args.cases or os.path.join(args.check or args.model or ".", "cases.json")
    spec = read_json(source)
    base = os.path.dirname(os.path.abspath(source))
    model = args.model or (args.check and find_model(args.check))
    if not model:
        parser.error("--model is needed")
    if spec["family"] not in ("mllama", "llama"):
        sys.exit(f"make_golden: family {spec['family']} is not one of mllama, llama")
    if args.only:
        spec["cases"] = [case for case in spec["cases"] if case["id"] in args.only.split(",")]
    if args.unseen_rows:
        spec["unseen_rows"] = args.unseen_rows
    if args.check:
        old = load_file(os.path.join(args.check, "golden.safetensors"))
        new = make(model, spec, base, "all", {})
        big = {name for name in new if name.split(".", 1)[1].removesuffix("_bf16") in BIG | {"logits"}}
        lines = compare(old, {name: value for name, value in new.items() if name in old or name not in big})
        print("\n".join(lines) if lines else f"{args.check}: {len(old)} tensors, the reference gives the same")
        sys.exit(1 if lines else 0)

    out = args.out or model
    os.makedirs(out, exist_ok=True)
    tensors = make(model, spec, base, args.big_tensors, parse_keeps(args.keep))
    for case in spec["cases"]:
        case["images"] = [os.path.relpath(os.path.join(base, path), out) for path in case.get("images") or []]
    save_file(tensors, os.path.join(out, "golden.safetensors"))
    os.chmod(os.path.join(out, "golden.safetensors"), 0o644)
    with open(os.path.join(out, "cases.json"), "w", encoding="utf-8") as file:
        json.dump(spec, file, indent=1, ensure_ascii=False)
        file.write("\n")
    print(f"{out}: {len(spec['cases'])} cases, {len(tensors)} tensors")


def find_model(directory):
    """The directory itself or the nearest one above that holds a config.json."""
    directory = os.path.abspath(directory)
    while not os.path.exists(os.path.join(directory, "config.json")):
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent
    return directory


if __name__ == "__main__":
    main()
