"""Load generators: one request, or several at a time, over gRPC (Tessera) and over HTTP with server-sent events (llama-server).

All times are the client's own: first token, last token. A prompt is a list of token ids, so that no tokenizer is in the way.
"""

import dataclasses
import http.client
import json
import sys
import threading
import time

import places


@dataclasses.dataclass
class Answer:
    """Of one request, seconds since it was sent."""
    first: float
    last: float
    tokens: int
    prompt_tokens: int | None = None  # as the peer counts them, where it tells
    cached_tokens: int | None = None  # of them, those that a prefix cache spared it
    ids: list | None = None           # of the answer, where it tells
    text: str | None = None


def load_stubs():
    import grpc_tools
    from grpc_tools import protoc
    import pathlib
    out = places.WORK / "proto"
    out.mkdir(parents=True, exist_ok=True)
    own = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    code = protoc.main(["", f"-I{places.ROOT / 'proto'}", f"-I{own}", f"--python_out={out}", f"--grpc_python_out={out}",
                        "tessera/v1/tessera.proto"])
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")
    sys.path.insert(0, str(out))
    from tessera.v1 import tessera_pb2, tessera_pb2_grpc
    return tessera_pb2, tessera_pb2_grpc


class TesseraClient:
    def __init__(self, address):
        import grpc
        self.grpc = grpc
        self.pb, stubs = load_stubs()
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", 64 << 20),
                                                               ("grpc.max_receive_message_length", 64 << 20)])
        self.stub = stubs.TesseraStub(self.channel)

    def model(self):
        """GetModel's answer, or None while the server is not ready."""
        try:
            return self.stub.GetModel(self.pb.GetModelRequest(), timeout=60)
        except self.grpc.RpcError as error:
            if error.code() == self.grpc.StatusCode.UNAVAILABLE:
                return None
            raise

    def generate(self, ids, tokens, _text=None):
        return self._run(self.pb.GenerateRequest(raw=self.pb.RawPrompt(token_ids=ids)), tokens)

    def ask(self, picture, question, tokens):
        parts = [self.pb.Part(image=self.pb.Image(data=picture)), self.pb.Part(text=question)]
        chat = self.pb.Conversation(messages=[self.pb.Message(role=self.pb.ROLE_USER, parts=parts)])
        return self._run(self.pb.GenerateRequest(chat=chat), tokens)

    def _run(self, request, tokens):
        request.sampling.temperature = 0
        request.limits.max_tokens = tokens
        request.stopping.ignore_eos = True
        first = last = usage = None
        ids, text = [], ""
        begin = time.perf_counter()
        for event in self.stub.Generate(request, timeout=600):
            kind = event.WhichOneof("event")
            if kind == "delta" and event.delta.tokens:
                last = time.perf_counter()
                first = first or last
                ids += [token.id for token in event.delta.tokens]
                text += event.delta.text
            elif kind == "finished":
                usage = event.finished.usage
        if not ids or usage is None:
            raise RuntimeError(f"the answer has {len(ids)} tokens and {'an' if usage else 'no'} end")
        return Answer(first - begin, last - begin, len(ids), usage.prompt_tokens, usage.cached_tokens, ids, text)

    def close(self):
        self.channel.close()


class LlamaClient:
    """The native endpoint of llama-server."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def generate(self, ids, tokens, _text=None):
        body = json.dumps({"prompt": ids, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False, "stream": True,
                           "return_tokens": True})
        connection = http.client.HTTPConnection(self.host, self.port, timeout=600)
        first = last = None
        count, prompt, cached = 0, None, None
        answer, text = [], ""
        begin = time.perf_counter()
        try:
            connection.request("POST", "/completion", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            if reply.status != 200:
                raise RuntimeError(f"llama-server answered {reply.status}: {reply.read(300).decode(errors='replace')}")
            for line in reply:
                if not line.startswith(b"data: "):
                    continue
                now = time.perf_counter()
                event = json.loads(line[6:])
                if "error" in event:
                    raise RuntimeError(f"llama-server: {event['error']}")
                if event.get("stop"):
                    count, cached = event["tokens_predicted"], event["timings"].get("cache_n")
                    prompt = event["timings"]["prompt_n"] + (cached or 0)
                    last = last or now
                else:
                    last = now
                    answer += event.get("tokens") or []
                    text += event.get("content") or ""
                first = first or now
        finally:
            connection.close()
        if not count:
            raise RuntimeError("the answer has no token")
        return Answer(first - begin, last - begin, count, prompt, cached, answer or None, text)

    def close(self):
        pass


def together(generate, prompts, tokens):
    """All prompts at the same time, one thread each; gives (tokens of all, wall seconds until the last one)."""
    answers, errors = [None] * len(prompts), []
    gate = threading.Barrier(len(prompts) + 1)

    def stream(i):
        gate.wait()
        try:
            answers[i] = generate(prompts[i], tokens)
        except Exception as error:  # told by the caller, in its own thread
            errors.append(error)

    threads = [threading.Thread(target=stream, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    gate.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(answer.tokens for answer in answers), time.perf_counter() - begin
