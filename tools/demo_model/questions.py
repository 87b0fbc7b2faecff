"""Questions about a scene and their answers: the types of the accuracy table.

An answer is a list of segments (text, items): the words and which of `Scene.items` show them, for the attention loss. A question
has several wordings, its answer one, so that exact match means something.
"""

import dataclasses
import random

import vocabulary as v
from scenes import Item, Scene

TYPES = ["name", "shape", "at", "left_of", "where", "colour", "size", "exist", "count", "caption", "read", "nothing"]
# How often each type is drawn where the scene allows it.
WEIGHTS = {"name": 0.8, "shape": 0.8, "at": 0.9, "left_of": 2.5, "where": 1.1, "colour": 1.4, "size": 9.0, "exist": 1.3}
WEIGHTS |= {"count": 3.6, "caption": 1.6, "read": 3.5, "nothing": 0.8}
# fmt: off
PLACES = ["in the top left", "at the top", "in the top right", "on the left", "in the centre", "on the right",
          "in the bottom left", "at the bottom", "in the bottom right"]
# fmt: on
DIRECTIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}  # row, column

Segments = list[tuple[str, list[Item]]]


@dataclasses.dataclass
class Question:
    type: str
    text: str
    answer: Segments

    @property
    def answer_text(self) -> str:
        return "".join(text for text, _ in self.answer)


class Asker:
    """Makes questions about one scene. `absent`: how often a question is about something that is not there."""

    def __init__(self, rng: random.Random, scene: Scene, absent: float):
        self.rng, self.scene, self.absent = rng, scene, absent
        self.nouns = [o.noun for o in scene.objects]
        self.phrases = [self.phrase(o) for o in scene.objects]
        self.unique = [o for o, p in zip(scene.objects, self.phrases) if self.phrases.count(p) == 1]

    @staticmethod
    def phrase(item: Item) -> str:
        """The noun, with the colour for shapes."""
        return item.noun if item.colour < 0 else f"{v.COLOUR_NAMES[item.colour]} {item.noun}"

    def refer(self, item: Item) -> str:
        """A name for `item` that fits it alone."""
        if item.colour >= 0 and self.nouns.count(item.noun) == 1 and self.rng.random() < 0.4:
            return item.noun
        return self.phrase(item)

    def missing(self) -> str:
        """Something that is not in the picture."""
        while True:
            if self.rng.random() < 0.4:
                noun = self.rng.choice(v.SHAPES)
                if self.rng.random() < 0.7:
                    noun = self.rng.choice(v.COLOUR_NAMES) + " " + noun
            else:
                noun = self.rng.choice(v.EMOJI_NAMES)
            if noun not in self.nouns and noun not in self.phrases:
                return noun

    @staticmethod
    def there_is_no(noun: str) -> Segments:
        return [(f"There is no {v.definite(noun)}.", [])]

    def pick(self, *wordings: str) -> str:
        return self.rng.choice(wordings)

    def say(self, item: Item) -> str:
        return v.article(self.phrase(item))

    # Each method below gives a question or None where the scene has none of the type.

    def name(self):
        if self.scene.kind != "single" or self.scene.objects[0].colour >= 0:
            return None
        item = self.scene.objects[0]
        text = self.pick(
            "What is this?",
            "What is in the picture?",
            "What do you see?",
            "What does the picture show?",
            "Name the object.",
            "What object is this?",
            "Which object is shown?",
            "What can you see here?",
        )
        return text, [(f"{self.say(item).capitalize()}.", [item])]

    def shape(self):
        shapes = [
            o for o in self.unique if o.colour >= 0 and sum(p.colour == o.colour for p in self.scene.objects) == 1
        ]
        if not shapes:
            return None
        item = self.rng.choice(shapes)
        if self.scene.kind == "single" and self.rng.random() < 0.7:
            text = self.pick(
                "What shape is this?",
                "Which shape is it?",
                "What shape do you see?",
                "Name the shape.",
                "Which shape is in the picture?",
            )
        else:
            colour = v.COLOUR_NAMES[item.colour]
            text = self.pick(
                f"What shape is {colour}?",
                f"Which shape is {colour}?",
                f"What is the {colour} shape?",
                f"Name the {colour} shape.",
            )
        return text, [(f"{v.article(item.noun).capitalize()}.", [item])]

    def at(self):
        cells = [c for c in range(9) if self.scene.text_row != c // 3]
        full = {o.cell: o for o in self.scene.objects}
        cell = self.rng.choice(cells)
        if full and self.rng.random() < 0.9:
            cell = self.rng.choice(list(full))
        place = PLACES[cell]
        text = self.pick(
            f"What is {place}?",
            f"What do you see {place}?",
            f"What is {place} of the picture?",
            f"Which object is {place}?",
        )
        if cell not in full:
            return text, [("Nothing.", [])]
        return text, [(f"{self.say(full[cell]).capitalize()}.", [full[cell]])]

    def neighbour(self, item: Item, direction: str) -> Item | None:
        """The nearest object in the same row (column) on that side."""
        step_row, step_column = DIRECTIONS[direction]
        row, column = divmod(item.cell, 3)
        cells = {o.cell: o for o in self.scene.objects}
        for distance in (1, 2):
            r, c = row + step_row * distance, column + step_column * distance
            if 0 <= r < 3 and 0 <= c < 3 and r * 3 + c in cells:
                return cells[r * 3 + c]
        return None

    def pairs(self) -> list[tuple[Item, str, Item | None]]:
        """Every thing that can be named, a direction, and its neighbour there."""
        directions = [d for d in DIRECTIONS if self.scene.text_row < 0 or "of" in d]
        return [(o, d, self.neighbour(o, d)) for o in self.unique for d in directions]

    def ask_beside(self, noun: str, direction: str) -> str:
        noun = v.definite(noun)
        return self.pick(
            f"What is {direction} the {noun}?",
            f"What do you see {direction} the {noun}?",
            f"Which object is {direction} the {noun}?",
        )

    def left_of(self):
        found = [p for p in self.pairs() if p[2]]
        if not found:
            return None
        if self.rng.random() < self.absent:
            noun = self.missing()
            return self.ask_beside(noun, self.rng.choice(found)[1]), self.there_is_no(noun)
        item, direction, other = self.rng.choice(found)
        return self.ask_beside(self.refer(item), direction), [(f"{self.say(other).capitalize()}.", [other])]

    def nothing(self):
        """left_of where nothing is there."""
        empty = [p for p in self.pairs() if not p[2]]
        if not empty or len(self.scene.objects) < 2:
            return None
        item, direction, _ = self.rng.choice(empty)
        return self.ask_beside(self.refer(item), direction), [("Nothing.", [])]

    def where(self):
        if not self.unique:
            return None
        if self.rng.random() < self.absent:
            noun = self.missing()
            answer = self.there_is_no(noun)
        else:
            item = self.rng.choice(self.unique)
            noun = self.refer(item)
            place = PLACES[item.cell]
            answer = [(f"{place[0].upper()}{place[1:]}.", [item])]
        noun = v.definite(noun)
        return (
            self.pick(
                f"Where is the {noun}?",
                f"Where do you see the {noun}?",
                f"In which part of the picture is the {noun}?",
                f"Find the {noun}.",
            ),
            answer,
        )

    def colour(self):
        shapes = [o for o in self.scene.objects if o.colour >= 0 and self.nouns.count(o.noun) == 1]
        if self.rng.random() < self.absent:
            free = [s for s in v.SHAPES if s not in self.nouns]
            noun = self.rng.choice(free)
            answer = self.there_is_no(noun)
        elif shapes:
            item = self.rng.choice(shapes)
            noun, answer = item.noun, [(f"{v.COLOUR_NAMES[item.colour].capitalize()}.", [item])]
        else:
            return None
        word = self.pick("colour", "color")
        return (
            self.pick(
                f"What {word} is the {noun}?",
                f"Which {word} is the {noun}?",
                f"What is the {word} of the {noun}?",
                f"Tell me the {word} of the {noun}.",
            ),
            answer,
        )

    def size(self):
        pairs = [(a, b) for a in self.unique for b in self.unique if a.size >= 1.4 * b.size and a.noun != b.noun]
        if not pairs:
            return None
        big, small = self.rng.choice(pairs)
        larger = self.rng.random() < 0.5
        names = [self.refer(big), self.refer(small)]
        answer = [(f"The {v.definite(self.phrase(big if larger else small))}.", [big if larger else small])]
        self.rng.shuffle(names)
        if self.rng.random() < self.absent:
            gone = self.rng.randrange(2)
            names[gone] = self.missing()
            if self.rng.random() < 0.5:
                names[1 - gone] = self.missing()
                gone = 0
            answer = self.there_is_no(names[gone])
        a, b = (v.definite(n) for n in names)
        word = self.pick("larger", "bigger") if larger else "smaller"
        return (
            self.pick(
                f"Which is {word}, the {a} or the {b}?",
                f"What is {word}, the {a} or the {b}?",
                f"Is the {a} or the {b} {word}?",
            ),
            answer,
        )

    def exist(self):
        shown: list[Item] = []
        if self.scene.objects and self.rng.random() < 0.5:
            item = self.rng.choice(self.scene.objects)
            noun = self.phrase(item) if self.rng.random() < 0.7 else item.noun
            shown = [o for o in self.scene.objects if noun in (o.noun, self.phrase(o))]
        elif self.scene.objects:
            noun = self.missing()
            shapes = [o for o in self.scene.objects if o.colour >= 0]
            if shapes and self.rng.random() < 0.4:  # the right shape in a wrong colour
                other = self.rng.choice(v.COLOUR_NAMES) + " " + self.rng.choice(shapes).noun
                noun = noun if other in self.phrases else other
        else:
            return None
        thing = v.article(noun)
        text = self.pick(
            f"Is there {thing}?",
            f"Is there {thing} in the picture?",
            f"Do you see {thing}?",
            f"Can you see {thing}?",
            f"Does the picture show {thing}?",
        )
        return text, [("Yes.", shown)] if shown else [("No.", [])]

    def count(self):
        if self.scene.kind != "count":
            return None
        item = self.scene.objects[0]
        noun, shown = item.noun, [o for o in self.scene.objects if o.noun == item.noun]
        if self.rng.random() < min(self.absent, 0.03):
            noun, shown = self.missing(), []
        elif item.colour >= 0 and self.rng.random() < 0.5 and all(o.colour == item.colour for o in shown):
            noun = self.phrase(item)
        things = v.plural(noun)
        text = self.pick(
            f"How many {things} are there?",
            f"How many {things} do you see?",
            f"Count the {things}.",
            f"How many {things} are in the picture?",
        )
        return text, [(f"{v.NUMBERS[len(shown)] if shown else 'None'}.", shown)]

    def caption(self):
        scene, groups = self.scene, []
        for item in sorted(scene.objects, key=lambda o: o.cell):
            phrase = self.phrase(item)
            if phrase not in [g[0] for g in groups]:
                groups.append((phrase, [o for o in scene.objects if self.phrase(o) == phrase]))
        if len(groups) > 4 or (not groups and not scene.text):
            return None
        parts: list[Segments] = []
        for phrase, shown in groups:
            words = v.article(phrase) if len(shown) == 1 else f"{v.NUMBERS[len(shown)].lower()} {v.plural(phrase)}"
            parts.append([(words, shown)])
        if scene.text:
            parts.append([("the text", scene.glyphs), (' "', scene.glyphs[:1]), *self.spell(), ('"', [])])
        answer: Segments = []
        for i, part in enumerate(parts):
            if i:
                answer.append((" and " if i == len(parts) - 1 else ", ", part[0][1]))
            answer += part
        first, shown = answer[0]
        answer[0] = (first[0].upper() + first[1:], shown)
        text = self.pick(
            "Describe the picture.",
            "Caption this picture.",
            "Describe this image.",
            "Write a caption.",
            "What is shown in this picture? Describe it.",
            "Please describe the picture.",
            "Give a short description.",
        )
        return text, answer + [(".", [])]

    def spell(self) -> Segments:
        return [(g.noun, [g]) for g in self.scene.glyphs]

    def read(self):
        if not self.scene.text:
            return None
        text = self.pick(
            "What does it say?",
            "Read the text.",
            "What is written here?",
            "What is the text?",
            "Read the word.",
            "What does the text say?",
            "Which text is in the picture?",
            "What is written in the picture?",
        )
        return text, [("It says", self.scene.glyphs), (' "', self.scene.glyphs[:1]), *self.spell(), ('".', [])]

    def ask(self, kind: str) -> Question | None:
        made = getattr(self, kind)()
        return Question(kind, *made) if made else None


def ask_some(rng: random.Random, scene: Scene, number: int, absent: float = 0.10) -> list[Question]:
    """At most `number` questions, types drawn by WEIGHTS among those the scene allows; hardly ever the same one in other words."""
    asker = Asker(rng, scene, absent)
    types, seen, result = list(TYPES), set(), []
    for _ in range(8 * number):
        if len(result) == number:
            break
        question = asker.ask(rng.choices(types, [WEIGHTS[t] for t in types])[0])
        if question is None:
            continue
        key = (question.type, question.answer_text)
        if key not in seen or (question.type in ("read", "exist") and rng.random() < 0.15):
            seen.add(key)
            result.append(question)
    return result
