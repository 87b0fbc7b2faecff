"""The evaluation: held-out scenes and questions, the bar, and the statistics of the table."""

import collections
import dataclasses
import math
import random

import numpy as np

import chat
import questions
import scenes

SEEDS = range(900001, 900013)  # training's seeds are strings of another form: no scene is shared
# Kinds of scenes, and how often (training's own shares follow what is hard to learn).
KINDS = {"text": 0.30, "count": 0.25, "objects": 0.22, "size": 0.17, "single": 0.06}
ABSENT = 0.03  # share of questions about things that are not there (all "exist" questions aside)
BAR = {
    "name": 0.97,
    "shape": 0.97,
    "at": 0.97,
    "left_of": 0.97,
    "where": 0.97,
    "colour": 0.97,
    "size": 0.97,
    "exist": 0.96,
    "count": 0.92,
    "caption": 0.85,
    "read": 0.88,
}
TITLES = {
    "name": "name",
    "shape": "shape",
    "at": "what is at a place",
    "left_of": "what is left of, right of, above, below",
    "where": "where",
    "colour": "colour",
    "size": "which is larger, smaller",
    "exist": "is there",
    "count": "count (1-5)",
    "caption": "caption",
    "read": "reading text (1-5 characters)",
    "nothing": "what is left of ..., where nothing is",
    "chat": "text-only chat",
}
SWAP_MARGIN = 0.05  # the swapped-picture control may be so much better than the best constant answer

# Fixed text-only prompts and the sensible answer. Training has such sentences in many wordings (chat.py); these test the real template.
CHAT = [
    ("Hello!", chat.HELLO),
    ("Hi there!", chat.HELLO),
    ("Good morning!", chat.HELLO),
    ("hey", chat.HELLO),
    ("What can you do?", chat.CAN),
    ("Hello, what can you do?", chat.CAN),
    ("Hi! How can you help me?", chat.CAN),
    ("help", chat.CAN),
    ("Thanks!", chat.THANKS),
    ("Thank you very much!", chat.THANKS),
    ("thanks a lot", chat.THANKS),
    ("Who are you?", chat.WHO),
    ("Hello, who are you?", chat.WHO),
    ("What is your name?", chat.WHO),
    ("Goodbye!", chat.BYE),
    ("See you later", chat.BYE),
    ("How are you?", chat.FINE),
    ("What do you see?", chat.NO_PICTURE),
    ("Describe the picture.", chat.NO_PICTURE),
    ("Tell me a joke.", chat.SORRY),
]


@dataclasses.dataclass
class Case:
    """One request. `scene` None: text only."""

    type: str
    scene: scenes.Scene | None
    question: str
    answer: str


def make_case(art: dict[str, np.ndarray], kind: str, seed: int, number: int) -> Case:
    rng = random.Random(f"evaluation/{seed}/{kind}/{number}")
    while True:
        shape = rng.choices(list(scenes.CANVASES), scenes.CANVASES.values())[0]
        scene = scenes.make_scene(rng, art, rng.choices(list(KINDS), KINDS.values())[0], shape)
        question = questions.Asker(rng, scene, ABSENT).ask(kind)
        if question:
            return Case(kind, scene, question.text, question.answer_text)


def make_cases(art: dict[str, np.ndarray], kind: str, number: int) -> list[Case]:
    """`number` cases of one type, spread evenly over the seeds."""
    return [make_case(art, kind, SEEDS[i % len(SEEDS)], i // len(SEEDS)) for i in range(number)]


def swap(made: list[Case], number: int) -> list[Case]:
    """The same questions about the picture of the next case."""
    return [dataclasses.replace(c, scene=made[(i + 1) % len(made)].scene) for i, c in enumerate(made[:number])]


def chat_cases() -> list[Case]:
    return [Case("chat", None, prompt, answer) for prompt, answer in CHAT]


def wilson(right: int, asked: int, side: int, z: float = 1.6449) -> float:
    """Bound of the one-sided 95 % interval (Wilson): side -1 lower, +1 upper."""
    share = right / asked
    middle = share + z * z / (2 * asked)
    spread = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return (middle + side * spread) / (1 + z * z / asked)


@dataclasses.dataclass
class Result:
    """One row of the table."""

    type: str
    asked: int
    right: int
    swap_asked: int = 0
    swap_right: int = 0
    constant: float = 0.0  # share of the commonest right answer
    by_tiles: dict[str, list[int]] = dataclasses.field(default_factory=dict)  # "1", "2", "3", "4" -> [right, asked]

    @property
    def reaches(self) -> bool:
        """The interval reaches the bar: the data do not say that the true accuracy is below it."""
        return (
            wilson(self.right, self.asked, +1) >= BAR.get(self.type, 0.0)
            if self.type != "chat"
            else self.right == self.asked
        )

    @property
    def blind(self) -> bool:
        """Without the right picture it is no better than a constant answer (which is all there is to say to "nothing")."""
        return self.type not in BAR or not self.swap_asked or self.swap_right / self.swap_asked <= self.constant + SWAP_MARGIN


def score(kind: str, made: list[Case], answers: list[str], swapped: list[str]) -> Result:
    right = [a == c.answer for a, c in zip(answers, made)]
    common = collections.Counter(c.answer for c in made).most_common(1)[0][1] / len(made)
    result = Result(
        kind, len(made), sum(right), len(swapped), sum(a == c.answer for a, c in zip(swapped, made)), common
    )
    for ok, case in zip(right, made):
        if case.scene:
            row = result.by_tiles.setdefault(str(case.scene.canvas[0] * case.scene.canvas[1]), [0, 0])
            row[0] += ok
            row[1] += 1
    return result


def changes(kind: str, made: list[Case], before: list[str], after: list[str]) -> str:
    """What another way to run the model changed: one line."""
    if len(before) != len(after):
        raise SystemExit(f"{kind}: {len(before)} answers there, {len(after)} here: ask the same --number")
    changed = [(a == c.answer, b == c.answer) for c, a, b in zip(made, before, after) if a != b]
    return (
        f"{kind}: {len(changed)} of {len(made)} answers changed, "
        f"{changed.count((True, False))} no longer right, {changed.count((False, True))} right only now"
    )


def table(results: list[Result]) -> str:
    """Markdown."""
    lines = [
        "| question | right | one-sided 95 % interval | bar | picture swapped | best constant answer | 1 tile | 2 to 4 tiles | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        if r.type == "chat":
            lines.append(
                f"| {TITLES[r.type]} | {r.right} of {r.asked} | | all | | | | | {'pass' if r.reaches else 'FAIL'} |"
            )
            continue
        one = r.by_tiles.get("1", [0, 0])
        more = [sum(v[k] for t, v in r.by_tiles.items() if t != "1") for k in (0, 1)]
        share = lambda pair: f"{100 * pair[0] / pair[1]:.1f}" if pair[1] else ""  # noqa: E731
        swapped = f"{100 * r.swap_right / r.swap_asked:.1f}" if r.swap_asked else ""
        verdict = "pass" if r.reaches and r.blind else "FAIL" if not r.reaches else "FAIL (answers without looking)"
        lines.append(
            f"| {TITLES[r.type]} | {100 * r.right / r.asked:.1f} % of {r.asked} | {100 * wilson(r.right, r.asked, -1):.1f} / {100 * wilson(r.right, r.asked, 1):.1f} "
            f"| {f'{100 * BAR[r.type]:.0f}' if r.type in BAR else 'none'} | {swapped} | {100 * r.constant:.1f} | {share(one)} | {share(more)} | {verdict} |"
        )
    return "\n".join(lines)
