#!/usr/bin/env python3
"""OpenVINO GenAI: worker_openvino.py FILE.gguf, or a directory of a vision-language model."""

import os
import sys

import worker


def load():
    import numpy as np
    import openvino
    import openvino_genai
    path = sys.argv[1]
    if os.path.isdir(path):
        openvino_genai.VLMPipeline(path, "CPU")
        raise RuntimeError("it loads this directory, which the bench does not know how to ask")
    pipeline = openvino_genai.LLMPipeline(path, "CPU")

    class Streamer(openvino_genai.StreamerBase):
        def __init__(self, clock):
            super().__init__()
            self.clock = clock

        def write(self, token):
            self.clock.token(len(token) if isinstance(token, (list, tuple)) else 1)
            return openvino_genai.StreamingStatus.RUNNING

        def end(self):
            pass

    def greedy(prompts, tokens, *streamer):
        rows = np.array(prompts, dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(rows), openvino.Tensor(np.ones_like(rows)))
        config = openvino_genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True, do_sample=False)
        return pipeline.generate(inputs, config, *streamer)

    def generate(ids, tokens, text=None):
        clock = worker.Clock()
        out = greedy([ids], tokens, Streamer(clock))
        return {**clock.answer(), "prompt_tokens": out.perf_metrics.get_num_input_tokens(), "ids": [int(token) for token in out.tokens[0]]}

    def together(prompts, tokens):
        return {"tokens": sum(map(len, greedy(prompts, tokens).tokens))}

    return {"threads": len(os.sched_getaffinity(0)), "weight_bytes": os.path.getsize(path)}, {"generate": generate, "together": together}


worker.serve(load)
