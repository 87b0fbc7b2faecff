#!/usr/bin/env python3
"""mistral.rs: worker_mistralrs.py DIRECTORY-or-GGUF. It takes text, not ids, and tells its own times of prompt and answer."""

import base64
import json
import os
import pathlib
import sys
import threading

import worker

MOST_STREAMS = 16


def load():
    os.environ["HF_HUB_OFFLINE"] = "1"
    import mistralrs
    path, facts = pathlib.Path(sys.argv[1]), {}
    if path.is_dir() and json.loads((path / "config.json").read_text())["model_type"] == "mllama":
        which = mistralrs.Which.MultimodalPlain(model_id=str(path), arch=mistralrs.MultimodalArchitecture.VLlama)
    elif path.is_dir():
        which = mistralrs.Which.Plain(model_id=str(path), arch=mistralrs.Architecture.Llama)
    else:
        which = mistralrs.Which.GGUF(quantized_model_id=str(path.parent), quantized_filename=path.name)
        facts["weight_bytes"] = path.stat().st_size
    runner = mistralrs.Runner(which=which, prefix_cache_n=0, max_seqs=MOST_STREAMS)

    def complete(text, tokens):
        return runner.send_completion_request(mistralrs.CompletionRequest(
            prompt=text, model="default", max_tokens=tokens, temperature=0.0, top_k=1, ignore_eos=True))

    def digits(ids):
        """A prompt of as many tokens: a digit is one in all tokenizers of this bench."""
        return "".join(str(i % 10) for i in ids)

    def generate(ids, tokens, text=None):
        answer = complete(text or digits(ids), tokens)
        return {**told(answer.usage), "text": answer.choices[0].text}

    def together(prompts, tokens):
        counts, errors = [], []

        def one(ids):
            try:
                counts.append(complete(digits(ids), tokens).usage.completion_tokens)
            except BaseException as error:  # a panic of Rust is no Exception
                errors.append(error)

        threads = [threading.Thread(target=one, args=(ids,)) for ids in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise RuntimeError(f"{len(errors)} of {len(prompts)} requests at a time failed: {type(errors[0]).__name__}: {errors[0]}")
        return {"tokens": sum(counts)}

    def ask(picture, question, tokens):
        url = "data:image/png;base64," + base64.b64encode(pathlib.Path(picture).read_bytes()).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "<|image|>" + question}]
        request = mistralrs.ChatCompletionRequest(messages=[{"role": "user", "content": content}], model="default", max_tokens=tokens,
                                                  temperature=0.0, top_k=1, ignore_eos=True)
        clock = worker.Clock()
        usage = runner.send_chat_completion_request(request).usage
        clock.token(usage.completion_tokens)
        if tokens == 1:  # the wall time holds the picture's decoding too, which its own times leave out
            return {**clock.answer(), "prompt_tokens": usage.prompt_tokens}
        return told(usage)

    def told(usage):
        first = usage.total_prompt_time_sec
        return {"first": first, "last": first + usage.total_completion_time_sec, "tokens": usage.completion_tokens,
                "prompt_tokens": usage.prompt_tokens}

    return {"threads": len(os.sched_getaffinity(0)), **facts}, {"generate": generate, "together": together, "ask": ask}


worker.serve(load)
