#!/usr/bin/env python3
"""mistral.rs: worker_mistralrs.py DIRECTORY-or-GGUF. It takes text, not ids, and tells its own times of prompt and answer."""

import base64
import json
import os
import pathlib
import sys

import worker


def load():
    os.environ["HF_HUB_OFFLINE"] = "1"
    import mistralrs
    path = pathlib.Path(sys.argv[1])
    if path.is_dir() and json.loads((path / "config.json").read_text())["model_type"] == "mllama":
        which = mistralrs.Which.MultimodalPlain(model_id=str(path), arch=mistralrs.MultimodalArchitecture.VLlama)
        size = (path / "model.safetensors").stat().st_size
    elif path.is_dir():
        which = mistralrs.Which.Plain(model_id=str(path), arch=mistralrs.Architecture.Llama)
        size = (path / "model.safetensors").stat().st_size
    else:
        which = mistralrs.Which.GGUF(quantized_model_id=str(path.parent), quantized_filename=path.name)
        size = path.stat().st_size
    runner = mistralrs.Runner(which=which, prefix_cache_n=0)

    def generate(ids, tokens):
        # A digit is a token of its own in all tokenizers of this bench
        text = "".join(str(i % 10) for i in ids)
        request = mistralrs.CompletionRequest(prompt=text, model="default", max_tokens=tokens, temperature=0.0, top_k=1, ignore_eos=True)
        return told(runner.send_completion_request(request).usage)

    def ask(picture, question, tokens):
        url = "data:image/png;base64," + base64.b64encode(pathlib.Path(picture).read_bytes()).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "<|image|>" + question}]
        request = mistralrs.ChatCompletionRequest(messages=[{"role": "user", "content": content}], model="default", max_tokens=tokens,
                                                  temperature=0.0, top_k=1, ignore_eos=True)
        return told(runner.send_chat_completion_request(request).usage)

    def told(usage):
        first = usage.total_prompt_time_sec
        return {"first": first, "last": first + usage.total_completion_time_sec, "tokens": usage.completion_tokens,
                "prompt_tokens": usage.prompt_tokens}

    return {"threads": len(os.sched_getaffinity(0)), "weight_bytes": size}, {"generate": generate, "ask": ask}


worker.serve(load)
