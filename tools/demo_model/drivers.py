"""Ways to ask the model: this directory's own network, transformers, or a running Tessera server over gRPC."""

import concurrent.futures
import io
import pathlib
import sys
import tempfile
import time

from PIL import Image

from cases import Case

MAX_TOKENS = 64
ROOT = pathlib.Path(__file__).resolve().parents[2]


def png(case: Case) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(case.scene.pixels).save(buffer, "PNG")
    return buffer.getvalue()


class NetworkDriver:
    """Batches through network.py: fast, for checks during training."""

    def __init__(self, parameters: dict, tokenizer_file: pathlib.Path):
        import torch
        from tokenizers import Tokenizer

        import network
        import packing
        import sprites
        import tokenizer

        self.torch, self.parameters = torch, parameters
        self.config = network.Config()
        self.network = network.Network(self.config)
        self.text = tokenizer.Text(Tokenizer.from_file(str(tokenizer_file)))
        self.packer = packing.Packer(self.config, sprites.load(), self.text)

    def ask(self, cases: list[Case], batch: int = 32) -> list[str]:
        t = self.text
        prompts = []
        for case in cases:
            mark = [t.image] if case.scene else []
            prompts.append([t.bos] + t.user + mark + t.plain(case.question)[0] + [t.eot] + t.assistant)
        answers = [""] * len(cases)
        order = sorted(range(len(cases)), key=lambda i: (cases[i].scene is None, len(prompts[i])))
        while order:  # groups of prompts of one length
            first = order[0]
            same = [
                i
                for i in order[:batch]
                if len(prompts[i]) == len(prompts[first]) and (cases[i].scene is None) == (cases[first].scene is None)
            ]
            order = [i for i in order if i not in same]
            for i, answer in zip(same, self.generate([prompts[i] for i in same], [cases[i].scene for i in same])):
                answers[i] = answer
        return answers

    def generate(self, prompts: list[list[int]], scenes: list) -> list[str]:
        torch, net, p = self.torch, self.network, self.parameters
        count, length = len(prompts), len(prompts[0])
        with torch.inference_mode():
            ids = torch.tensor(prompts)
            if scenes[0]:
                pictures, _ = self.packer.pictures(scenes, self.config.max_tiles)
                states, tiles = (
                    net.vision(p, pictures.pixels, pictures.ratio_ids, pictures.tile_counts),
                    pictures.tile_counts,
                )
                sees = ((ids == self.text.image).cumsum(1) > 0).float()
            else:
                states, tiles = torch.zeros(count, 1, 1, self.config.width), torch.ones(count, dtype=torch.int64)
                sees = torch.zeros(count, length)
            mask = torch.full((length, length), -1e9).triu(1)[None, None]
            cache = [None] * self.config.layers
            positions = torch.arange(length).expand(count, length)
            last = torch.arange(count) * length + length - 1
            out = [[] for _ in range(count)]
            open_rows = set(range(count))
            for step in range(MAX_TOKENS):
                logits, _ = net.text(p, ids, positions, mask, sees, states, tiles, last, cache)
                ids = logits.argmax(-1, keepdim=True)
                for i, token in enumerate(ids[:, 0].tolist()):
                    if i in open_rows:
                        if token == self.text.eot:
                            open_rows.discard(i)
                        else:
                            out[i].append(token)
                if not open_rows:
                    break
                positions = torch.full((count, 1), length + step)
                mask, sees, last = torch.zeros(1, 1, 1, length + step + 1), sees[:, -1:], torch.arange(count)
        return [self.text.tokenizer.decode(row) for row in out]


class TransformersDriver:
    """Stock processor and generate, one request at a time. zero: unseen rows patched as the model was trained."""

    def __init__(self, model: pathlib.Path, zero: bool):
        import torch
        from transformers import MllamaForConditionalGeneration, MllamaProcessor

        import zero_rows

        if zero:
            zero_rows.patch()
        self.torch = torch
        self.processor = MllamaProcessor.from_pretrained(model)
        self.model = MllamaForConditionalGeneration.from_pretrained(model, dtype=torch.float32).eval()

    def ask(self, cases: list[Case]) -> list[str]:
        answers = []
        for case in cases:
            content = ([{"type": "image"}] if case.scene else []) + [{"type": "text", "text": case.question}]
            prompt = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
            if case.scene:
                inputs = self.processor(
                    images=[Image.open(io.BytesIO(png(case)))],
                    text=prompt,
                    add_special_tokens=False,
                    return_tensors="pt",
                )
            else:
                inputs = self.processor.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
            with self.torch.inference_mode():
                ids = self.model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
            answers.append(
                self.processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            )
        return answers


class GrpcDriver:
    """Tessera's own interface, `in_flight` requests at once."""

    def __init__(self, server: str, in_flight: int, wait_s: float = 120):
        import grpc
        from grpc_tools import protoc

        self.grpc, self.in_flight = grpc, in_flight
        made = pathlib.Path(tempfile.mkdtemp(prefix="tessera-proto-"))
        proto = ROOT / "proto"
        if protoc.main(
            [
                "",
                f"-I{proto}",
                f"--python_out={made}",
                f"--grpc_python_out={made}",
                str(proto / "tessera/v1/tessera.proto"),
            ]
        ):
            raise RuntimeError(f"{proto}/tessera/v1/tessera.proto does not compile")
        sys.path.insert(0, str(made))
        from tessera.v1 import tessera_pb2, tessera_pb2_grpc

        self.pb = tessera_pb2
        channel = grpc.insecure_channel(server, options=[("grpc.max_receive_message_length", 64 << 20)])
        grpc.channel_ready_future(channel).result(timeout=wait_s)
        self.stub = tessera_pb2_grpc.TesseraStub(channel)
        models = self.stub.ListModels(tessera_pb2.ListModelsRequest(), timeout=30).models
        print(f"server {server}: {', '.join(m.name for m in models)}", file=sys.stderr)

    def request(self, case: Case):
        parts = [self.pb.Part(image=self.pb.Image(data=png(case)))] if case.scene else []
        parts.append(self.pb.Part(text=case.question))
        message = self.pb.Message(role=self.pb.ROLE_USER, parts=parts)
        return self.pb.GenerateRequest(
            chat=self.pb.Conversation(messages=[message]),
            sampling=self.pb.SamplingParams(temperature=0),
            limits=self.pb.Limits(max_tokens=MAX_TOKENS),
        )

    def one(self, case: Case) -> str:
        for attempt in range(100):
            try:
                return "".join(
                    e.delta.text for e in self.stub.Generate(self.request(case), timeout=120) if e.HasField("delta")
                )
            except self.grpc.RpcError as error:
                if error.code() != self.grpc.StatusCode.RESOURCE_EXHAUSTED or attempt == 99:
                    raise
                time.sleep(0.05)
        raise AssertionError("not reached")

    def ask(self, cases: list[Case]) -> list[str]:
        with concurrent.futures.ThreadPoolExecutor(self.in_flight) as pool:
            return list(pool.map(self.one, cases))
