"""Small pictures of every emoji, shape and glyph in every size, rendered once by Pillow and kept in a cache file."""

import hashlib
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import vocabulary as v

EMOJI_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
GLYPH_FONTS = [
    "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf",
    "/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf",
]
EMOJI_STRIKE = 109  # the only bitmap size of Noto Color Emoji
SIZES = list(range(14, 66, 2))  # longer side, pixels
CACHE = pathlib.Path(__file__).resolve().parents[2] / "build" / "demo_model" / "sprites.npz"


def nearest_size(pixels: float) -> int:
    return min(max(14, 2 * round(pixels / 2)), SIZES[-1])


def trim(picture: Image.Image) -> Image.Image:
    """Cuts away the transparent rim and pads to a square."""
    picture = picture.crop(picture.getchannel("A").getbbox())
    side = max(picture.size)
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def emoji_master(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), character, font=font, embedded_color=True)
    if canvas.getchannel("A").getbbox() is None:
        raise ValueError(f"the emoji font has no picture for {character!r}")
    return trim(canvas)


def shape_master(shape: str, side: int = 256) -> Image.Image:
    """A filled shape as coverage, before antialiased shrinking."""
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    m = side - 1
    if shape == "circle":
        draw.ellipse((0, 0, m, m), fill=255)
    elif shape == "square":
        draw.rectangle((side * 0.06, side * 0.06, side * 0.94, side * 0.94), fill=255)
    elif shape == "triangle":
        draw.polygon([(m / 2, 0), (m, m * 0.9), (0, m * 0.9)], fill=255)
    elif shape == "diamond":
        draw.polygon([(m / 2, 0), (m * 0.87, m / 2), (m / 2, m), (m * 0.13, m / 2)], fill=255)
    elif shape == "star":
        angle = -np.pi / 2 + np.pi / 5 * np.arange(10)
        radius = np.where(np.arange(10) % 2 == 0, 0.5, 0.21) * m
        draw.polygon([(m / 2 + r * np.cos(a), m * 0.52 + r * np.sin(a)) for r, a in zip(radius, angle)], fill=255)
    elif shape == "heart":
        t = np.linspace(0, 2 * np.pi, 200)
        x = 16 * np.sin(t) ** 3
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        draw.polygon([(m / 2 + a * m / 34, m * 0.46 - b * m / 34) for a, b in zip(x, y)], fill=255)
    else:
        raise ValueError(f"no such shape: {shape}")
    return mask


def glyph_mask(glyph: str, size: int, font_path: str) -> np.ndarray:
    """Coverage of one character whose capitals are `size` pixels high, uint8 [h, w], tight sideways, of cap height."""
    font = ImageFont.truetype(font_path, round(size / 0.73))
    box = font.getbbox(glyph)
    top, bottom = font.getbbox("HO0")[1], font.getbbox("HO0")[3]
    canvas = Image.new("L", (box[2] - box[0], bottom - top + 2))
    ImageDraw.Draw(canvas).text((-box[0], 1 - top), glyph, font=font, fill=255)
    return np.asarray(canvas)


def render() -> dict[str, np.ndarray]:
    arrays = {}
    font = ImageFont.truetype(EMOJI_FONT, EMOJI_STRIKE)
    for i, character in enumerate(v.EMOJI.values()):
        master = emoji_master(character, font)
        for size in SIZES:
            arrays[f"emoji/{i}/{size}"] = np.asarray(master.resize((size, size), Image.Resampling.BOX))
    for i, shape in enumerate(v.SHAPES):
        master = shape_master(shape)
        for size in SIZES:
            arrays[f"shape/{i}/{size}"] = np.asarray(master.resize((size, size), Image.Resampling.BOX))
    for f, path in enumerate(GLYPH_FONTS):
        for i, glyph in enumerate(v.GLYPHS):
            for size in SIZES:
                arrays[f"glyph/{f}/{i}/{size}"] = glyph_mask(glyph, size, path)
    return arrays


def load() -> dict[str, np.ndarray]:
    """The cache, made if it is not there or belongs to another vocabulary."""
    key = hashlib.sha256(repr((v.EMOJI, v.SHAPES, v.GLYPHS, SIZES, GLYPH_FONTS)).encode()).hexdigest()[:16]
    if CACHE.exists():
        with np.load(CACHE) as stored:
            if str(stored["key"]) == key:
                return {name: stored[name] for name in stored.files if name != "key"}
    arrays = render()
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    partial = CACHE.with_suffix(".partial.npz")
    np.savez(partial, key=np.array(key), **arrays)
    partial.replace(CACHE)
    return arrays


if __name__ == "__main__":
    sprites = load()
    sheet = Image.new("RGB", (10 * 48, 10 * 48), "white")
    for i in range(len(v.EMOJI_NAMES)):
        sprite = Image.fromarray(sprites[f"emoji/{i}/40"])
        sheet.paste(sprite, (i % 10 * 48 + 4, i // 10 * 48 + 4), sprite)
    sheet.save(CACHE.parent / "sprites.png")
    print(f"{len(sprites)} sprites in {CACHE}")
