"""Pictures: what stands where, and the pixels. Deterministic by the random generator handed in; about 1 ms each.

A scene is a 3x3 grid of cells over the whole picture. Objects (emoji or coloured shapes) stand in cells of their own; a text takes
a row of the grid. Pictures have the size that the image processor keeps as it is (one side fills the canvas of tiles).
"""

import dataclasses
import io
import random

import numpy as np
from PIL import Image

import sprites
import vocabulary as v

TILE = 96  # pixels
PATCH = 12
GRID = TILE // PATCH  # patches along a tile
# (tiles high, tiles wide) and how often each is drawn.
CANVASES = {
    (1, 1): 0.52,
    (1, 2): 0.15,
    (2, 1): 0.11,
    (2, 2): 0.10,
    (1, 3): 0.04,
    (3, 1): 0.03,
    (1, 4): 0.03,
    (4, 1): 0.02,
}
SMALLEST = 20  # pixels: what the emoji of vocabulary.py were chosen to be told apart at
SIZE_BINS = (19, 27, 37)  # pixels: borders of the auxiliary size classes
SIZES = len(SIZE_BINS) + 1


@dataclasses.dataclass
class Item:
    """One object or character. `box` is x0, y0, x1, y1 in pixels; `colour` and `glyph_index` are -1 where they mean nothing."""

    class_id: int
    noun: str  # "dog", "circle"; characters: the character
    colour: int
    cell: int  # row * 3 + column
    box: tuple[int, int, int, int]
    glyph_index: int = -1
    like: int = 0  # how many of this noun are in the picture; characters: the text's length

    @property
    def size(self) -> int:
        return self.box[2] - self.box[0]


@dataclasses.dataclass
class Scene:
    kind: str
    canvas: tuple[int, int]  # tiles high, wide
    pixels: np.ndarray  # uint8 [H, W, 3]
    objects: list[Item]
    glyphs: list[Item]
    text: str
    text_row: int

    @property
    def items(self) -> list[Item]:
        return self.objects + self.glyphs


def picture_size(rng: random.Random, canvas: tuple[int, int]) -> tuple[int, int]:
    """Height and width; three in ten leave part of the canvas empty."""
    height, width = canvas[0] * TILE, canvas[1] * TILE
    if rng.random() < 0.3:
        if rng.random() < 0.5:
            height = rng.randint(height - 14, height - 1)
        else:
            width = rng.randint(width - 14, width - 1)
    return height, width


class Painter:
    """Draws one scene."""

    def __init__(self, rng: random.Random, art: dict[str, np.ndarray], canvas: tuple[int, int]):
        self.rng, self.art, self.canvas = rng, art, canvas
        self.height, self.width = picture_size(rng, canvas)
        self.cell_h, self.cell_w = self.height / 3, self.width / 3
        self.unit = min(self.cell_h, self.cell_w)
        self.background = tuple(rng.randint(205, 255) for _ in range(3))
        self.pixels = np.empty((self.height, self.width, 3), np.uint8)
        self.pixels[:] = self.background
        self.shrink = rng.uniform(0.6, 1.0) if self.unit > 50 else 1.0

    def blend(self, x: int, y: int, colour, alpha: np.ndarray) -> None:
        region = self.pixels[y : y + alpha.shape[0], x : x + alpha.shape[1]]
        a = alpha.astype(np.int32)[:, :, None]
        region[:] = (region * (255 - a) + np.asarray(colour, np.int32) * a + 127) // 255

    def place(self, noun: str, colour: int, cell: int, fraction: float) -> Item:
        """Draws an object `fraction` of a cell wide somewhere in `cell`."""
        rng = self.rng
        side = max(sprites.nearest_size(self.unit * fraction * self.shrink), SMALLEST)
        side = min(side, int(min(self.cell_h, self.cell_w)) // 2 * 2)
        row, column = divmod(cell, 3)
        x = int(column * self.cell_w + (self.cell_w - side) * rng.uniform(0.15, 0.85))
        y = int(row * self.cell_h + (self.cell_h - side) * rng.uniform(0.15, 0.85))
        x, y = min(max(x, 0), self.width - side), min(max(y, 0), self.height - side)
        if colour >= 0:
            kind = v.SHAPES.index(noun)
            rgb = [min(max(c + rng.randint(-12, 12), 0), 255) for c in v.COLOURS[v.COLOUR_NAMES[colour]]]
            self.blend(x, y, rgb, self.art[f"shape/{kind}/{side}"])
            class_id = v.FIRST_SHAPE + kind
        else:
            kind = v.EMOJI_NAMES.index(noun)
            sprite = self.art[f"emoji/{kind}/{side}"]
            self.blend(x, y, sprite[:, :, :3], sprite[:, :, 3])
            class_id = 1 + kind
        return Item(class_id, noun, colour, cell, (x, y, x + side, y + side))

    def write(self, text: str, row: int) -> list[Item]:
        """Writes `text` into a row of the grid, as large as fits at most."""
        rng = self.rng
        font = rng.randrange(len(sprites.GLYPH_FONTS))
        size = sprites.nearest_size(rng.uniform(0.62, 0.85) * self.unit * self.shrink)
        while True:
            masks = [self.art[f"glyph/{font}/{v.GLYPHS.index(c)}/{size}"] for c in text]
            gap = max(1, round(size * 0.1))
            total = sum(m.shape[1] for m in masks) + gap * (len(text) - 1)
            if total <= self.width - 2:
                break
            if size > sprites.SIZES[0]:
                size -= 2
            else:
                font = 1  # the narrow one: five characters of the smallest size always fit
        x = int((self.width - total) * rng.uniform(0.05, 0.95))
        y = int(row * self.cell_h + (self.cell_h - masks[0].shape[0]) * rng.uniform(0.2, 0.8))
        y = min(max(y, 0), self.height - masks[0].shape[0])
        dark = [c for c in v.COLOUR_NAMES if c not in ("yellow", "pink")]
        rgb = v.COLOURS[rng.choice(dark)]
        items = []
        for i, (glyph, mask) in enumerate(zip(text, masks)):
            self.blend(x, y, rgb, mask)
            cell = row * 3 + min(2, int((x + mask.shape[1] / 2) / self.cell_w))
            box = (x, y, x + mask.shape[1], y + mask.shape[0])
            items.append(Item(v.FIRST_GLYPH + v.GLYPHS.index(glyph), glyph, -1, cell, box, i, len(text)))
            x += mask.shape[1] + gap
        return items

    def finish(self) -> np.ndarray:
        """Now and then what pictures suffer on their way: JPEG, resizing."""
        fate = self.rng.random()
        if fate < 0.06:
            buffer = io.BytesIO()
            Image.fromarray(self.pixels).save(buffer, "JPEG", quality=self.rng.randint(70, 95))
            self.pixels = np.asarray(Image.open(buffer))
        elif fate < 0.12:
            scale = self.rng.uniform(1.3, 2.5)
            large = Image.fromarray(self.pixels).resize(
                (int(self.width * scale), int(self.height * scale)), Image.Resampling.BICUBIC
            )
            self.pixels = np.asarray(large.resize((self.width, self.height), Image.Resampling.BILINEAR))
        return self.pixels


def random_text(rng: random.Random) -> str:
    if rng.random() < 0.35:
        return rng.choice(v.WORDS)
    return "".join(rng.choice(v.DRAWN_GLYPHS) for _ in range(rng.randint(1, 5)))


def random_object(rng: random.Random, taken: set[str]) -> tuple[str, int]:
    """An object whose noun and, for shapes, noun with colour is not in `taken` yet: (noun, colour or -1)."""
    while True:
        if rng.random() < 0.45:
            noun, colour = rng.choice(v.SHAPES), rng.randrange(len(v.COLOURS))
            if noun in taken and rng.random() < 0.7:  # two circles of different colours now and then
                continue
            key = v.COLOUR_NAMES[colour] + " " + noun
        else:
            noun, colour = rng.choice(v.EMOJI_NAMES), -1
            key = noun
        if key not in taken:
            taken.update((key, noun))
            return noun, colour


def make_scene(rng: random.Random, art: dict[str, np.ndarray], kind: str, canvas: tuple[int, int]) -> Scene:
    """kind: single, objects, size, count, text, or dense (for the vision model alone)."""
    paint = Painter(rng, art, canvas)
    taken: set[str] = set()
    objects: list[Item] = []
    glyphs: list[Item] = []
    text, text_row = "", -1
    cells = list(range(9))
    if kind == "text" or (kind in ("objects", "count") and rng.random() < 0.12):
        text, text_row = random_text(rng), rng.randrange(3)
        glyphs = paint.write(text, text_row)
        cells = [c for c in cells if c // 3 != text_row]
    rng.shuffle(cells)
    normal = lambda: rng.uniform(0.66, 0.97)  # noqa: E731
    if kind == "single":
        objects.append(paint.place(*random_object(rng, taken), cells.pop(), normal()))
    elif kind == "objects":
        for _ in range(rng.choice((2, 2, 3, 3, 4))):
            objects.append(paint.place(*random_object(rng, taken), cells.pop(), normal()))
    elif kind == "size":
        fractions = [rng.uniform(0.56, 0.64), rng.uniform(0.92, 0.99)]
        rng.shuffle(fractions)
        for fraction in fractions:
            objects.append(paint.place(*random_object(rng, taken), cells.pop(), fraction))
    elif kind == "count":
        noun, colour = random_object(rng, taken)
        mixed = colour >= 0 and rng.random() < 0.5
        for _ in range(rng.randint(1, 5)):
            shade = rng.randrange(len(v.COLOURS)) if mixed else colour
            objects.append(paint.place(noun, shade, cells.pop(), normal()))
        taken.update(v.COLOUR_NAMES[c] + " " + noun for c in range(len(v.COLOURS)) if colour >= 0)
        for _ in range(min(rng.choice((0, 0, 1, 2)), len(cells))):
            other = random_object(rng, taken)
            if other[0] != noun:
                objects.append(paint.place(*other, cells.pop(), normal()))
    elif kind == "text":
        for _ in range(rng.choice((0, 0, 1, 2))):
            objects.append(paint.place(*random_object(rng, taken), cells.pop(), normal()))
    elif kind == "dense":
        rows = [r for r in range(3) if rng.random() < 0.55]
        for row in rows:
            glyphs += paint.write(random_text(rng), row)
        repeated = random_object(rng, taken)
        for cell in cells:
            if cell // 3 not in rows and rng.random() < 0.8:
                noun, colour = repeated if rng.random() < 0.35 else random_object(rng, set())
                objects.append(paint.place(noun, colour, cell, rng.uniform(0.48, 0.99)))
    else:
        raise ValueError(f"no such kind of scene: {kind}")
    nouns = [o.noun for o in objects]
    for item in objects:
        item.like = nouns.count(item.noun)
    return Scene(kind, canvas, paint.finish(), objects, glyphs, text, text_row)


def to_tiles(scene: Scene) -> np.ndarray:
    """What the image processor makes of it, float32 [tiles, 3, TILE, TILE] in [-1, 1]; the empty rest of the canvas is -1."""
    high, wide = scene.canvas
    canvas = np.full((high * TILE, wide * TILE, 3), -1.0, np.float32)
    canvas[: scene.pixels.shape[0], : scene.pixels.shape[1]] = scene.pixels * np.float32(1 / 127.5) - 1
    tiles = canvas.reshape(high, TILE, wide, TILE, 3).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(high * wide, 3, TILE, TILE)


def overlap(low: int, high: int, count: int) -> np.ndarray:
    """How many of a patch row's (column's) pixels lie in [low, high), int [count]."""
    edges = np.arange(count) * PATCH
    return np.clip(np.minimum(edges + PATCH, high) - np.maximum(edges, low), 0, PATCH)


def patch_targets(scene: Scene) -> tuple[np.ndarray, list[np.ndarray]]:
    """What each patch shows, and where each item is.

    Returns int64 [tiles * 64, 6] (class, colour, cell, size, character index, count - 1; -1: nothing to learn), patches in the
    vision model's order (tile by tile), and for each of `scene.items` the indices of its patches.
    """
    high, wide = scene.canvas[0] * GRID, scene.canvas[1] * GRID
    order = (
        np.arange(high * wide)
        .reshape(scene.canvas[0], scene.canvas[1], GRID, GRID)
        .transpose(0, 2, 1, 3)
        .reshape(high, wide)
    )
    best = np.full((high, wide), PATCH * PATCH // 4)
    targets = np.full((high * wide, 6), -1, np.int64)
    targets[:, 0] = 0
    places = []
    for item in scene.items:
        x0, y0, x1, y1 = item.box
        area = np.outer(overlap(y0, y1, high), overlap(x0, x1, wide))
        row = (
            item.class_id,
            item.colour,
            item.cell,
            sum(item.size > b for b in SIZE_BINS) if item.glyph_index < 0 else -1,
            item.glyph_index,
            item.like - 1 if item.like <= 5 else -1,
        )
        won = area > best
        best = np.where(won, area, best)
        targets[order[won]] = row
        near = area >= max(PATCH * PATCH // 6, 1)
        places.append(order[near] if near.any() else order[area == area.max()])
    return targets, places
