#!/usr/bin/env python3
"""Asks a Tessera server about a picture from Python, streaming.

    pip install grpcio grpcio-tools
    python client/python/ask.py --server 127.0.0.1:8001 --image models/demo/pictures/01-single-1x1.png "What is this?"

The gRPC code is generated from proto/ into a temporary folder on the fly; in your own project generate it once:

    python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. tessera/v1/tessera.proto
"""

import argparse
import pathlib
import sys
import tempfile

import grpc
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def load_stubs():
    out = tempfile.mkdtemp(prefix="tessera-proto-")
    code = protoc.main(["", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}", "tessera/v1/tessera.proto"])
    if code != 0:
        sys.exit(f"protoc failed with {code}")
    sys.path.insert(0, out)
    from tessera.v1 import tessera_pb2, tessera_pb2_grpc

    return tessera_pb2, tessera_pb2_grpc


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt")
    parser.add_argument("--server", default="127.0.0.1:8001")
    parser.add_argument("--image", action="append", default=[], help="JPEG, PNG or WebP; may be given several times")
    parser.add_argument("--max-tokens", type=int, default=64)
    args = parser.parse_args()

    pb, pb_grpc = load_stubs()
    parts = [pb.Part(image=pb.Image(data=pathlib.Path(path).read_bytes())) for path in args.image]
    parts.append(pb.Part(text=args.prompt))
    request = pb.GenerateRequest(
        chat=pb.Conversation(messages=[pb.Message(role=pb.ROLE_USER, parts=parts)]),
        sampling=pb.SamplingParams(temperature=0),
        limits=pb.Limits(max_tokens=args.max_tokens),
    )
    channel = grpc.insecure_channel(args.server, options=[("grpc.max_send_message_length", 64 << 20)])
    try:
        for event in pb_grpc.TesseraStub(channel).Generate(request):
            if event.HasField("delta"):
                print(event.delta.text, end="", flush=True)
            elif event.HasField("finished"):
                usage, timings = event.finished.usage, event.finished.timings
                print(f"\n[{usage.prompt_tokens} prompt tokens, {usage.image_tokens} image positions, "
                      f"first token after {timings.first_token * 1e3:.0f} ms]", file=sys.stderr)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
