#!/usr/bin/env python3
"""transformers with torch: worker_transformers.py DIRECTORY DTYPE."""

import io
import os
import sys

import worker


def load():
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    directory, dtype = sys.argv[1], getattr(torch, sys.argv[2])
    config = transformers.AutoConfig.from_pretrained(directory)
    pictures = config.model_type == "mllama"
    kind = transformers.MllamaForConditionalGeneration if pictures else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(directory, dtype=dtype).eval()
    processor = transformers.AutoProcessor.from_pretrained(directory) if pictures else None

    class Streamer:
        def __init__(self, clock):
            self.clock, self.prompt = clock, True

        def put(self, value):
            if self.prompt:
                self.prompt = False
            else:
                self.clock.token(value.numel())

        def end(self):
            pass

    def greedy(inputs, tokens, streamer=None, ends=False):
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=0 if ends else tokens, do_sample=False, streamer=streamer)
        return out[:, inputs["input_ids"].shape[1]:].tolist()

    def to_its_end(ids):
        """Without the end id. Beyond it peers that ignore it do not agree on what that means: some forbid it, some go on after it."""
        stop = model.generation_config.eos_token_id
        return ids[:-1] if ids[-1] in (stop if isinstance(stop, list) else [stop]) else ids

    def run(clock, inputs, tokens, ends=False):
        ids = greedy(inputs, tokens, Streamer(clock), ends)[0]
        ids = to_its_end(ids) if ends else ids
        return {**clock.answer(), "prompt_tokens": inputs["input_ids"].shape[1], "ids": ids}

    def rows(prompts):
        prompts = torch.tensor(prompts)
        return {"input_ids": prompts, "attention_mask": torch.ones_like(prompts)}

    def generate(ids, tokens, text=None):
        clock = worker.Clock()
        return run(clock, rows([ids]), tokens)

    def together(prompts, tokens):
        return {"tokens": sum(map(len, greedy(rows(prompts), tokens)))}

    def reference(text, tokens):
        """A text's ids, its greedy continuation up to its end, and the text of each beginning of that."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = to_its_end(greedy(rows([prompt]), tokens, ends=True)[0])
        return {"prompt": prompt, "ids": ids, "beginnings": [tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1)]}

    def ask(picture, question, tokens, ends=False):
        from PIL import Image
        with open(picture, "rb") as file:
            data = file.read()
        clock = worker.Clock()
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        inputs = processor(images=image, text=text, add_special_tokens=False, return_tensors="pt")
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        return run(clock, inputs, tokens, ends)

    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return ({"threads": torch.get_num_threads(), "weight_bytes": weights, "dtype": str(model.dtype)},
            {"generate": generate, "together": together, "reference": reference, "ask": ask})


worker.serve(load)
