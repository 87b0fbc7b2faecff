"""Training batches: pictures, and the questions about each packed into one row of tokens.

Questions about one picture share their beginning (template header, picture mark) and do not see one another: the row is a tree, and
the mask lets a token see its ancestors. That costs half of what separate rows would.
"""

import dataclasses
import random

import numpy as np
import torch

import chat
import questions
import scenes
from network import Config
from tokenizer import Text

TYPE_IDS = {t: i for i, t in enumerate([*questions.TYPES, "chat"])}
# Kinds of scenes in the second phase, and how often.
KINDS = {"text": 0.26, "count": 0.23, "objects": 0.19, "size": 0.28, "single": 0.04}


@dataclasses.dataclass
class Branch:
    """Tokens that hang on `parent`; `places` are the patches that show what a token says, for the token itself."""

    parent: int
    ids: list[int] = dataclasses.field(default_factory=list)
    learn: list[int] = dataclasses.field(default_factory=list)  # -1, or the number of the answer the token belongs to
    places: list = dataclasses.field(default_factory=list)
    sees: bool = True

    def add(self, ids: list[int]) -> None:
        self.ids += ids
        self.learn += [-1] * len(ids)
        self.places += [None] * len(ids)


@dataclasses.dataclass
class Batch:
    """Inputs of Network.vision and Network.text, and what to learn."""

    pixels: torch.Tensor  # [B, T, 3, 96, 96]
    ratio_ids: torch.Tensor  # [B]
    tile_counts: torch.Tensor  # [B]
    patch_targets: torch.Tensor  # int64 [B, T * 64, 6]
    ids: torch.Tensor | None = None  # [B, L]
    positions: torch.Tensor | None = None  # [B, L]
    mask: torch.Tensor | None = None  # [B, 1, L, L], 0 or -1e9
    sees: torch.Tensor | None = None  # [B, L]
    rows: torch.Tensor | None = None  # [K] rows of the flattened [B * L] from which an answer's token is predicted
    targets: torch.Tensor | None = None  # [K] that token
    answers: torch.Tensor | None = None  # [K] number of the answer
    answer_types: torch.Tensor | None = None  # [answers] TYPE_IDS
    aimed: torch.Tensor | None = None  # [A] rows of the flattened [B * L] that should look at `aims`
    aims: torch.Tensor | None = None  # bool [A, T * 65]


class Packer:
    def __init__(self, config: Config, art: dict[str, np.ndarray], text: Text | None):
        self.c, self.art, self.text = config, art, text
        self.ratio_ids = {r: i + 1 for i, r in enumerate(config.ratios)}

    def pictures(self, made: list[scenes.Scene], tiles: int) -> tuple[Batch, list[list[np.ndarray]]]:
        """The picture part of a batch of `tiles` tiles each, and the patches of each scene's items."""
        pixels = np.zeros((len(made), tiles, 3, self.c.tile, self.c.tile), np.float32)
        targets = np.full((len(made), tiles * self.c.patches, 6), -1, np.int64)
        places = []
        for i, scene in enumerate(made):
            cut = scenes.to_tiles(scene)
            pixels[i, : len(cut)] = cut
            found, where = scenes.patch_targets(scene)
            targets[i, : len(found)] = found
            places.append(where)
        batch = Batch(
            torch.from_numpy(pixels),
            torch.tensor([self.ratio_ids[s.canvas] for s in made]),
            torch.tensor([s.canvas[0] * s.canvas[1] for s in made]),
            torch.from_numpy(targets),
        )
        return batch, places

    def with_picture(
        self,
        rng: random.Random,
        branch: Branch,
        asked: list[questions.Question],
        scene: scenes.Scene,
        where: list[np.ndarray],
        answer_types: list[int],
        question_first: bool,
    ) -> None:
        """One or two turns about the picture."""
        t = self.text
        for turn, question in enumerate(asked):
            if turn:
                branch.add(t.user)
            words = t.plain(question.text)[0]
            branch.add(words + [t.image] if question_first and not turn else words)
            branch.add([t.eot] + t.assistant)
            ids, starts = t.plain(question.answer_text)
            owners = []  # for each character its segment
            for i, (segment, _) in enumerate(question.answer):
                owners += [i] * len(segment)
            patches = []
            for _, items in question.answer:
                chosen = [where[k] for k, item in enumerate(scene.items) if any(item is other for other in items)]
                patches.append(np.concatenate(chosen) if chosen else None)
            branch.ids += ids + [t.eot]
            branch.learn += [len(answer_types)] * (len(ids) + 1)
            branch.places += [patches[owners[min(s + 1, len(owners) - 1)]] for s in starts] + [None]
            answer_types.append(TYPE_IDS[question.type])

    def tree(
        self,
        rng: random.Random,
        scene: scenes.Scene,
        where: list[np.ndarray],
        asked: list[questions.Question],
        answer_types: list[int],
    ) -> list[Branch]:
        """All that is said about one picture. Branch 0 is the root, branch 1 the picture."""
        t = self.text
        root = Branch(-1, sees=False)
        root.add([t.bos])
        if rng.random() < 0.12:
            root.add(t.system + t.plain(rng.choice(chat.SYSTEMS))[0] + [t.eot])
        root.add(t.user)
        shown = Branch(0)
        question_first = rng.random() < 0.10
        if not question_first:
            if rng.random() < 0.06:
                root.add(t.plain(rng.choice(("Look at this.", "Here is a picture.", "Look at this picture.")))[0])
            shown.add([t.image])
        branches = [root, shown]
        asked = list(asked)
        while asked:
            turns = 2 if len(asked) > 1 and rng.random() < 0.12 else 1
            branch = Branch(1)
            self.with_picture(rng, branch, asked[:turns], scene, where, answer_types, question_first)
            branches.append(branch)
            asked = asked[turns:]
        if rng.random() < 0.25:
            prompt, answer = chat.exchange(rng)
            branch = Branch(0, sees=False)
            branch.add(t.plain(prompt)[0] + [t.eot] + t.assistant)
            ids = t.plain(answer)[0] + [t.eot]
            branch.ids += ids
            branch.learn += [len(answer_types)] * len(ids)
            branch.places += [None] * len(ids)
            answer_types.append(TYPE_IDS["chat"])
            if question_first or root.ids[-1] == t.user[-1]:
                branches.append(branch)
            else:
                answer_types.pop()
        return branches

    def pack(
        self, rng: random.Random, made: list[scenes.Scene], asked: list[list[questions.Question]], tiles: int
    ) -> Batch:
        batch, places = self.pictures(made, tiles)
        answer_types: list[int] = []
        trees = [self.tree(rng, s, w, q, answer_types) for s, w, q in zip(made, places, asked)]
        length = max(sum(len(b.ids) for b in tree) for tree in trees)
        count, width = len(made), self.c.patches + 1
        ids = np.full((count, length), self.text.pad)
        positions = np.zeros((count, length), np.int64)
        sees = np.zeros((count, length), np.float32)
        mask = np.full((count, 1, length, length), -1e9, np.float32)
        rows, targets, answers, aimed, aims = [], [], [], [], []
        for b, tree in enumerate(trees):
            starts, at = [], 0
            for branch in tree:
                starts.append(at)
                size = len(branch.ids)
                span = slice(at, at + size)
                first = 0
                parent = branch.parent
                lineage = []
                while parent >= 0:
                    lineage.append(parent)
                    first += len(tree[parent].ids)
                    parent = tree[parent].parent
                ids[b, span] = branch.ids
                positions[b, span] = np.arange(first, first + size)
                mask[b, 0, span, span] = np.triu(np.full((size, size), -1e9, np.float32), 1)
                for p in lineage:
                    mask[b, 0, span, starts[p] : starts[p] + len(tree[p].ids)] = 0
                seen_from = (
                    branch.ids.index(self.text.image)
                    if self.text.image in branch.ids
                    else (0 if branch.sees and len(tree[1].ids) else size)
                )
                sees[b, at + seen_from : at + size] = 1
                for i in range(size):
                    if branch.learn[i] >= 0:
                        rows.append(b * length + at + i - 1)
                        targets.append(branch.ids[i])
                        answers.append(branch.learn[i])
                        if branch.places[i] is not None:
                            aim = np.zeros((tiles * width), bool)
                            aim[branch.places[i] // self.c.patches * width + branch.places[i] % self.c.patches + 1] = (
                                True
                            )
                            aimed.append(rows[-1])
                            aims.append(aim)
                at += size
            unused = slice(at, length)
            mask[b, 0, unused, 0] = 0
        batch.ids, batch.positions = torch.from_numpy(ids), torch.from_numpy(positions)
        batch.mask, batch.sees = torch.from_numpy(mask), torch.from_numpy(sees)
        batch.rows, batch.targets, batch.answers = torch.tensor(rows), torch.tensor(targets), torch.tensor(answers)
        batch.answer_types = torch.tensor(answer_types)
        batch.aimed = torch.tensor(aimed, dtype=torch.int64)
        batch.aims = torch.from_numpy(np.stack(aims)) if aims else torch.zeros(0, tiles * width, dtype=torch.bool)
        return batch

    def draw(self, seed: str, phase: str, padded: bool, pictures: dict[int, int], per_picture: int = 6) -> Batch:
        """One slot of a training step. pictures: how many fit a slot by number of tiles; padded: all pictures in max_tiles tiles."""
        rng = random.Random(seed)
        canvases, shares = list(scenes.CANVASES), list(scenes.CANVASES.values())
        canvas = rng.choices(canvases, shares)[0]
        tiles = self.c.max_tiles if padded else canvas[0] * canvas[1]
        same = canvases if padded else [c for c in canvases if c[0] * c[1] == tiles]
        chances = [scenes.CANVASES[c] for c in same]
        made, asked = [], []
        while len(made) < pictures[tiles]:
            kind = "dense" if phase == "a" else rng.choices(list(KINDS), KINDS.values())[0]
            scene = scenes.make_scene(rng, self.art, kind, rng.choices(same, chances)[0])
            if phase == "b":
                asked.append(questions.ask_some(rng, scene, per_picture))
                if not asked[-1]:
                    asked.pop()
                    continue
            made.append(scene)
        return self.pictures(made, tiles)[0] if phase == "a" else self.pack(rng, made, asked, tiles)
