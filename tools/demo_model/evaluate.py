"""Accuracy of the demo model per question type, on held-out scenes, with the swapped-picture control.

    evaluate.py --driver grpc --server 127.0.0.1:8001 --json models/demo/accuracy.json     the table that counts
    evaluate.py --driver network --checkpoint build/demo_model/run/b.pt --number 100       during training
    evaluate.py --driver transformers --model models/demo --number 50 [--stock]            the reference; --stock: unpatched
    evaluate.py --swapped 0 --answers a.json          the answers too; then, with a server that runs in another way:
    evaluate.py --swapped 0 --against a.json          which of them change, question by question

Exit code 0 only if every type reaches its bar and the control shows that the pictures were looked at.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time

import cases
import drivers
import questions
import sprites


def make_driver(args: argparse.Namespace):
    if args.driver == "grpc":
        return drivers.GrpcDriver(args.server, args.in_flight)
    import torch

    torch.set_num_threads(args.threads)
    if args.driver == "transformers":
        return drivers.TransformersDriver(args.model, zero=not args.stock)
    import export
    import network

    if args.checkpoint:
        parameters, folder = export.read_checkpoint(args.checkpoint, network.Config()), args.checkpoint.parent
    else:
        from safetensors.torch import load_file

        parameters, folder = load_file(args.model / "model.safetensors"), args.model
    # As shipped: rounded to bfloat16, computed in float32.
    parameters = {n: t.to(torch.bfloat16).float() for n, t in parameters.items()}
    return drivers.NetworkDriver(parameters, folder / "tokenizer.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=["grpc", "network", "transformers"], default="grpc")
    parser.add_argument("--server", default="127.0.0.1:8001")
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--model", type=pathlib.Path, default=drivers.ROOT / "models" / "demo")
    parser.add_argument("--checkpoint", type=pathlib.Path)
    parser.add_argument("--stock", action="store_true", help="transformers without the patch: unseen rows attend")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--number", type=int, default=1000, help="cases of a type")
    parser.add_argument(
        "--swapped", type=int, default=-1, help="cases of the control; default: as many as cases, at most 500"
    )
    parser.add_argument("--types", nargs="*", default=[*questions.TYPES, "chat"])
    parser.add_argument("--json", type=pathlib.Path, help="write the results here")
    parser.add_argument("--answers", type=pathlib.Path, help="write every answer here")
    parser.add_argument("--against", type=pathlib.Path, help="answers of another run, to count the changes")
    parser.add_argument("--show", type=int, default=0, help="print so many wrong answers of a type")
    args = parser.parse_args()
    driver, art = make_driver(args), sprites.load()
    swapped_number = min(args.number, 500) if args.swapped < 0 else args.swapped
    results, said, began = [], {}, time.monotonic()
    for kind in args.types:
        if kind == "chat":
            made, swapped = cases.chat_cases(), []
        else:
            made = cases.make_cases(art, kind, args.number)
            swapped = cases.swap(made, swapped_number)
        answers = said[kind] = driver.ask(made)
        result = cases.score(kind, made, answers, driver.ask(swapped) if swapped else [])
        results.append(result)
        print(
            f"{kind}: {result.right}/{result.asked}, swapped {result.swap_right}/{result.swap_asked}, {time.monotonic() - began:.0f} s",
            file=sys.stderr,
        )
        wrong = [(c, a) for c, a in zip(made, answers) if a != c.answer]
        for case, answer in wrong[: args.show]:
            print(f"   {case.question} | {case.answer} | {answer}", file=sys.stderr)
        if args.against:
            print(cases.changes(kind, made, json.loads(args.against.read_text())[kind], answers))
    print(cases.table(results))
    asked, right = sum(r.asked for r in results if r.type != "chat"), sum(r.right for r in results if r.type != "chat")
    if asked:
        print(f"\nall about pictures: {right} of {asked} right, {100 * right / asked:.2f} %")
    if args.answers:
        args.answers.write_text(json.dumps(said, ensure_ascii=False) + "\n")
    if args.json:
        how = {"grpc": "Tessera over gRPC", "network": "network.py", "transformers": "transformers"}[args.driver]
        args.json.write_text(
            json.dumps(
                {
                    "asked_through": how,
                    "seeds": [cases.SEEDS[0], cases.SEEDS[-1]],
                    "results": [dataclasses.asdict(r) for r in results],
                },
                indent=1,
            )
            + "\n"
        )
    return 0 if all(r.reaches and r.blind for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
