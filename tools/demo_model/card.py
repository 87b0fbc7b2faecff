"""Writes models/demo/README.md from card_template.md and accuracy.json: figures in the card are never typed by hand.

card.py --model models/demo
"""

import argparse
import json
import pathlib

import cases
import drivers
import vocabulary as v


def read_results(path: pathlib.Path) -> tuple[list[cases.Result], dict]:
    content = json.loads(path.read_text())
    return [cases.Result(**row) for row in content["results"]], content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=drivers.ROOT / "models" / "demo")
    args = parser.parse_args()
    results, about = read_results(args.model / "accuracy.json")
    values = {
        "table": cases.table(results),
        "asked_through": about["asked_through"],
        "first_seed": about["seeds"][0],
        "last_seed": about["seeds"][1],
        "emoji": ", ".join(v.EMOJI_NAMES),
        "emoji_count": len(v.EMOJI_NAMES),
        "shapes": ", ".join(v.SHAPES),
        "colours": ", ".join(v.COLOUR_NAMES),
        "stock": "",
        "training": "",
    }
    stock = args.model / "accuracy-stock-transformers.json"
    if stock.exists():
        rows, _ = read_results(stock)
        right, asked = sum(r.right for r in rows), sum(r.asked for r in rows)
        values["stock"] = (
            f"{right} of {asked} held-out questions right ({', '.join(f'{cases.TITLES[r.type]} {100 * r.right / r.asked:.0f} %' for r in rows)})"
        )
    training = args.model / "training.json"
    if training.exists():
        values["training"] = "; ".join(
            f"phase {t['phase']}: {t['step']:,} steps, {t['pictures']:,} pictures, {t['spent'] / 60:.0f} minutes"
            for t in json.loads(training.read_text())
        )
    text = (pathlib.Path(__file__).parent / "card_template.md").read_text()
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", str(value))
    (args.model / "README.md").write_text(text)
    print(f"{args.model / 'README.md'} written")


if __name__ == "__main__":
    main()
