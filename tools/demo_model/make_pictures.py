"""Makes the demo pictures and their questions: held-out scenes that the model answers right.

make_pictures.py --model models/demo      writes models/demo/pictures/*.png and questions.json
"""

import argparse
import json
import pathlib
import random

import torch
from safetensors.torch import load_file

import cases
import drivers
import questions
import scenes
import sprites

# (kind of scene, canvas, question types asked about it): one picture each.
WANTED = [
    ("single", (1, 1), ["name", "where"]),
    ("objects", (1, 1), ["caption", "left_of"]),
    ("count", (1, 1), ["count", "exist"]),
    ("text", (1, 1), ["read", "caption"]),
    ("size", (1, 1), ["size", "exist"]),
    ("objects", (1, 2), ["at", "colour"]),
    ("text", (1, 2), ["read", "where"]),
    ("count", (2, 1), ["count", "caption"]),
    ("objects", (2, 2), ["caption", "where"]),
    ("text", (2, 2), ["read", "caption"]),
    ("single", (2, 1), ["shape", "colour"]),
    ("objects", (1, 3), ["exist", "at"]),
]
SEED = 910001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=drivers.ROOT / "models" / "demo")
    args = parser.parse_args()
    torch.set_num_threads(1)
    parameters = {n: t.float() for n, t in load_file(args.model / "model.safetensors").items()}
    driver = drivers.NetworkDriver(parameters, args.model / "tokenizer.json")
    art, folder, listed, used = sprites.load(), args.model / "pictures", [], set()
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for number, (kind, canvas, types) in enumerate(WANTED, 1):
        for attempt in range(500):
            rng = random.Random(f"pictures/{SEED}/{number}/{attempt}")
            scene = scenes.make_scene(rng, art, kind, canvas)
            if (
                (kind == "objects" and len(scene.objects) < 3)
                or (kind == "text" and len(scene.text) < 3)
                or (kind == "count" and scene.objects[0].like < 2)
            ):
                continue
            if used & {o.noun for o in scene.objects}:  # variety: no emoji or shape twice among the pictures
                if attempt < 250:
                    continue
            asker = questions.Asker(rng, scene, 0.0)
            asked = [asker.ask(t) for t in types]
            if None in asked:
                continue
            made = [cases.Case(q.type, scene, q.text, q.answer_text) for q in asked]
            if driver.ask(made) == [c.answer for c in made]:
                break
        else:
            raise SystemExit(f"no picture {number} that the model answers right")
        used |= {o.noun for o in scene.objects}
        name = f"{number:02d}-{kind}-{canvas[0]}x{canvas[1]}.png"
        (folder / name).write_bytes(drivers.png(made[0]))
        listed += [
            {
                "picture": name,
                "tiles": canvas[0] * canvas[1],
                "type": c.type,
                "question": c.question,
                "answer": c.answer,
            }
            for c in made
        ]
    (folder / "questions.json").write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n")
    for row in listed:
        print(f"{row['picture']}: {row['question']} {row['answer']}")


if __name__ == "__main__":
    main()
