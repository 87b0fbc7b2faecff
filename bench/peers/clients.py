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
    timings: dict = dataclasses.field(default_factory=dict)  # the server's own, where it tells
    prompt_tokens: int | None = None                         # where it is not the length of the ids that were sent


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

    def generate(self, ids, tokens):
        return self._run(self.pb.GenerateRequest(raw=self.pb.RawPrompt(token_ids=ids)), tokens)

    def ask(self, picture, question, tokens):
        parts = [self.pb.Part(image=self.pb.Image(data=picture)), self.pb.Part(text=question)]
        chat = self.pb.Conversation(messages=[self.pb.Message(role=self.pb.ROLE_USER, parts=parts)])
        return self._run(self.pb.GenerateRequest(chat=chat), tokens)

    def _run(self, request, tokens):
        request.sampling.temperature = 0
        request.limits.max_tokens = tokens
        request.stopping.ignore_eos = True
        first = last = None
        count, timings = 0, {}
        begin = time.perf_counter()
        for event in self.stub.Generate(request, timeout=600):
            kind = event.WhichOneof("event")
            if kind == "delta" and event.delta.tokens:
                last = time.perf_counter()
                first = first or last
                count += len(event.delta.tokens)
            elif kind == "finished":
                timings = {entry.name: getattr(event.finished.timings, entry.name) for entry in event.finished.timings.DESCRIPTOR.fields}
        if not count:
            raise RuntimeError("the answer has no token")
        return Answer(first - begin, last - begin, count, timings)

    def close(self):
        self.channel.close()


class LlamaClient:
    """The native endpoint of llama-server."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def generate(self, ids, tokens):
        body = json.dumps({"prompt": ids, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False, "stream": True})
        connection = http.client.HTTPConnection(self.host, self.port, timeout=600)
        first = last = None
        count = 0
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
                    count = event["tokens_predicted"]
                    last = last or now
                else:
                    last = now
                first = first or now
        finally:
            connection.close()
        if not count:
            raise RuntimeError("the answer has no token")
        return Answer(first - begin, last - begin, count)

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
