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

    def run(clock, inputs, tokens):
        with torch.no_grad():
            model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, streamer=Streamer(clock))
        return clock.answer()

    def generate(ids, tokens):
        clock = worker.Clock()
        prompt = torch.tensor([ids])
        return run(clock, {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}, tokens)

    def ask(picture, question, tokens):
        from PIL import Image
        with open(picture, "rb") as file:
            data = file.read()
        clock = worker.Clock()
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        inputs = processor(images=image, text=text, add_special_tokens=False, return_tensors="pt")
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        return run(clock, inputs, tokens)

    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return {"threads": torch.get_num_threads(), "weight_bytes": weights}, {"generate": generate, "ask": ask}


worker.serve(load)
