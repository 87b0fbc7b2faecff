#!/usr/bin/env python3
"""mistral.rs: worker_mistralrs.py DIRECTORY-or-GGUF. It takes text only, and tells its own times of prompt and answer."""

import os
import pathlib
import sys

import worker


def load():
    os.environ["HF_HUB_OFFLINE"] = "1"
    import mistralrs
    path = pathlib.Path(sys.argv[1])
    if path.is_dir():
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
        usage = runner.send_completion_request(request).usage
        first = usage.total_prompt_time_sec
        return {"first": first, "last": first + usage.total_completion_time_sec, "tokens": usage.completion_tokens,
                "prompt_tokens": usage.prompt_tokens}

    return {"threads": len(os.sched_getaffinity(0)), "weight_bytes": size}, {"generate": generate}


worker.serve(load)
