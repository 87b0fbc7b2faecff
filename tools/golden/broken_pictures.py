"""Files that must be refused: cut short, lying, too large, of other formats. `broken()` gives name -> (bytes, why)."""

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

from picture_cases import SIGNATURE, chunk, jpeg_by_component, jpeg_join, jpeg_segments, pattern, png, png_rows, readable, save


def header_only(width, height, depth=8, colour=2):
    return (SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def resized_jpeg(data, width, height):
    segments = jpeg_segments(data)
    return jpeg_join([(m, p[:1] + struct.pack(">HH", height, width) + p[5:] if m in (0xC0, 0xC2) else p, c) for m, p, c in segments])


def patched_frame(data, at, value):
    segments = jpeg_segments(data)
    return jpeg_join([(m, p[:at] + bytes([value]) + p[at + 1:] if m == 0xC0 else p, c) for m, p, c in segments])


def many_scans(count):
    """A progressive grey picture that sends its DC coefficients again and again."""
    segments = jpeg_segments(save(Image.fromarray(pattern(16, 16)).convert("L"), "JPEG", progressive=True))
    first = next(i for i, s in enumerate(segments) if s[0] == 0xDA)
    return jpeg_join(segments[:first] + [segments[first]] * count + segments[first:])


def broken():
    rgb = pattern(12, 9, 4)
    image = Image.fromarray(pattern(40, 32, 6))
    baseline, slow = save(image, "JPEG"), save(image, "JPEG", progressive=True)
    lossy, lossless = save(image, "WEBP"), save(image, "WEBP", lossless=True)
    animated = save(image, "WEBP", save_all=True, append_images=[Image.fromarray(pattern(40, 32, 7))])
    whole = png(rgb, 8, 2)
    scans = [i for i, s in enumerate(jpeg_segments(slow)) if s[0] == 0xDA]
    restarts = save(image, "JPEG", restart_marker_blocks=1)
    cut = restarts.index(b"\xff\xd2")
    resumed = restarts.index(b"\xff\xd4")
    bomb = zlib.compress(bytes(2 << 20), 9)
    almost = zlib.compress(bytes((1 << 20) - 10), 9)
    vp8x = lambda w, h: b"VP8X" + struct.pack("<I", 10) + bytes(4) + struct.pack("<I", w - 1)[:3] + struct.pack("<I", h - 1)[:3]
    riff = lambda body: b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    fctl = lambda n, w, h: chunk(b"fcTL", struct.pack(">IIIIIHHBB", n, w, h, 0, 0, 1, 10, 0, 0))
    out = {
        "empty.bin": (b"", "empty"),
        "one_byte.bin": (b"\xff", "unknown"),
        "text.bin": (b"just some text, no picture at all", "unknown"),
        "zeros.bin": (bytes(5000), "unknown"),
        "other.gif": (save(image, "GIF"), "format"),
        "other.bmp": (save(image.resize((5, 4)), "BMP"), "format"),
        "other_le.tif": (save(image.resize((5, 4)), "TIFF"), "format"),
        "other_be.tif": (b"MM\0*" + bytes(30), "format"),
        "other.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "format"),
        "other.avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40), "format"),
        "other.ico": (b"\0\0\1\0\1\0" + bytes(40), "format"),
        "other.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format"),
        "bomb_40000.png": (header_only(40000, 40000), "pixels"),
        "bomb_2e9_1.png": (header_only(2_000_000_000, 1), "pixels"),
        "bomb_2e31.png": (header_only(2**31 - 1, 2**31 - 1, 16, 6), "pixels"),
        "bomb_grey1.png": (header_only(60000, 60000, 1, 0), "pixels"),
        "side.png": (header_only(2_000_000, 1), "side"),
        "bomb_65500.jpg": (resized_jpeg(baseline, 65500, 65500), "pixels"),
        "bomb_slow.jpg": (resized_jpeg(slow, 65500, 65500), "pixels"),
        "bomb_vp8x.webp": (riff(vp8x(16383, 16383) + lossy[12:]), "any"),
        "zero_width.png": (header_only(0, 5), "any"),
        "zero_height.jpg": (resized_jpeg(baseline, 40, 0), "any"),
        "scans_1000.jpg": (many_scans(1000), "scans"),
        "scans_101.jpg": (many_scans(101), "scans"),
        "bits_12.jpg": (patched_frame(baseline, 0, 12), "depth"),
        "components_2.jpg": (patched_frame(baseline, 5, 2), "components"),
        "no_scan.jpg": (jpeg_join([s for s in jpeg_segments(baseline) if s[0] != 0xDA]), "any"),
        "no_frame.jpg": (jpeg_join([s for s in jpeg_segments(baseline) if s[0] != 0xC0]), "any"),
        "no_tables.jpg": (jpeg_join([s for s in jpeg_segments(baseline) if s[0] != 0xDB]), "any"),
        "early_end.jpg": (baseline[:-200] + b"\xff\xd9", "incomplete"),
        "early_end_slow.jpg": (slow[:-200] + b"\xff\xd9", "any"),
        "scans_first.jpg": (jpeg_join(jpeg_segments(slow)[:scans[1]]), "incomplete"),
        "scans_half.jpg": (jpeg_join(jpeg_segments(slow)[:scans[5]]), "incomplete"),
        "scans_all_but_one.jpg": (jpeg_join(jpeg_segments(slow)[:scans[-1]]), "incomplete"),
        "components_missing.jpg": (jpeg_by_component(pattern(24, 16), keep=2), "incomplete"),
        "restart_hole.jpg": (restarts[:cut] + restarts[resumed:], "incomplete"),
        "rows_missing.png": (png(rgb, 8, 2, idat=lambda rows: zlib.compress(rows[:-37])), "incomplete"),
        "rows_missing_interlaced.png": (png(rgb, 8, 2, 1, idat=lambda rows: zlib.compress(rows[:-36])), "incomplete"),
        "rows_none.png": (png(rgb, 8, 2, idat=lambda rows: zlib.compress(b"")), "incomplete"),
        "half_byte_missing.png": (png(rgb, 8, 2, idat=lambda rows: zlib.compress(rows[:-1])), "incomplete"),
        "not_zlib.png": (png(rgb, 8, 2, idat=lambda rows: b"\0" * 300), "any"),
        "filter_9.png": (png(rgb, 8, 2, idat=lambda rows: zlib.compress(b"\x09" + rows[1:])), "any"),
        "crc_header.png": (whole[:29] + b"\0\0\0\0" + whole[33:], "any"),
        "crc_ancillary.png": (png(rgb, 8, 2, before=chunk(b"gAMA", bytes(4))[:-1] + b"?"), "any"),
        "depth_3.png": (header_only(5, 5, 3, 0), "any"),
        "palette_16.png": (header_only(5, 5, 16, 3), "any"),
        "palette_300.png": (png(rgb[..., :1], 8, 3, before=chunk(b"PLTE", bytes(900))), "any"),
        "no_idat.png": (png(rgb, 8, 2)[:33] + chunk(b"IEND", b""), "any"),
        "text_bomb.png": (png(rgb, 8, 2, before=chunk(b"zTXt", b"a\0\0" + bomb)), "metadata"),
        "itxt_bomb.png": (png(rgb, 8, 2, before=chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)), "metadata"),
        "icc_bomb.png": (png(rgb, 8, 2, before=chunk(b"iCCP", b"a\0\0" + bomb)), "metadata"),
        "text_bomb_late.png": (png(rgb, 8, 2, after=chunk(b"zTXt", b"a\0\0" + bomb)), "metadata"),
        "text_many.png": (png(rgb, 8, 2, before=chunk(b"zTXt", b"a\0\0" + almost) * 70), "metadata"),
        "icc_many.png": (png(rgb, 8, 2, before=chunk(b"iCCP", b"a\0\0" + almost) * 70), "metadata"),
        "short_srgb.png": (png(rgb, 8, 2, before=chunk(b"sRGB", b"")), "any"),
        "frame_small.png": (png(rgb, 8, 2, before=chunk(b"acTL", struct.pack(">II", 2, 0)) + fctl(0, 6, 9)), "any"),
        "frame_outside.png": (png(rgb, 8, 2, before=chunk(b"acTL", struct.pack(">II", 2, 0)) + fctl(0, 13, 9)), "any"),
        "frame_order.png": (png(rgb, 8, 2, before=chunk(b"acTL", struct.pack(">II", 2, 0)) + fctl(1, 12, 9)), "any"),
        "tail_cut.png": (png(rgb, 8, 2, end=False) + chunk(b"tEXt", b"a\0b")[:9], "any"),
    }
    for name, data in (("jpg", baseline), ("slow.jpg", slow), ("png", whole), ("webp", lossy), ("lossless.webp", lossless), ("animated.webp", animated)):
        for percent in (1, 3, 10, 30, 50, 70, 90, 97):
            out[f"cut_{percent}.{name}"] = (data[:len(data) * percent // 100], "any")
    return out


def mutate(data, rng):
    data = bytearray(data)
    kind = rng.random()
    if kind < 0.5:
        for _ in range(rng.choice((1, 1, 2, 6))):
            data[rng.randrange(len(data))] = rng.choice((0, 255, rng.randrange(256)))
    elif kind < 0.65:
        at = rng.randrange(len(data))
        del data[at:at + rng.randint(1, 20)]
    elif kind < 0.8:
        at = rng.randrange(len(data))
        data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 12)))
    elif kind < 0.9:
        data[rng.randrange(min(len(data), 100))] = rng.randrange(256)
    else:
        at, to, size = rng.randrange(len(data)), rng.randrange(len(data)), rng.randint(1, 60)
        data[to:to + size] = data[at:at + size]
    return bytes(data)


def mutated(count, seed=1):
    """Small files with a few bytes changed: name -> bytes. Whether they still hold a picture is Pillow's to say."""
    rng = random.Random(seed)
    small = {n: d for n, d in readable().items() if 100 < len(d) < 900}
    out = {}
    for ending in (".jpg", ".png", ".webp"):
        names = sorted(n for n in small if n.endswith(ending))
        for i in range(count):
            name = rng.choice(names)
            data = mutate(small[name], rng)
            out[f"mutated_{i:03}{ending}"] = data
    return out
