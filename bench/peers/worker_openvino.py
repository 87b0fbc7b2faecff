#!/usr/bin/env python3
"""OpenVINO GenAI reading a GGUF: worker_openvino.py FILE."""

import os
import sys

import worker


def load():
    import numpy as np
    import openvino
    import openvino_genai
    path = sys.argv[1]
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

    def generate(ids, tokens):
        clock = worker.Clock()
        prompt = openvino.Tensor(np.array([ids], dtype=np.int64))
        inputs = openvino_genai.TokenizedInputs(prompt, openvino.Tensor(np.ones((1, len(ids)), dtype=np.int64)))
        config = openvino_genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True, do_sample=False)
        pipeline.generate(inputs, config, Streamer(clock))
        return clock.answer()

    return {"threads": len(os.sched_getaffinity(0)), "weight_bytes": os.path.getsize(path)}, {"generate": generate}


worker.serve(load)
