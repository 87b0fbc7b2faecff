"""Hard pictures for the decoders, made from nothing: a dict of file name to bytes, the same on every run.

`readable()` gives files that hold a whole picture, `broken()` files that must be refused with the reason why. What
Pillow cannot write (odd JPEG samplings, one scan a component, PNG chunks in odd places) is built byte by byte.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def pattern(width, height, seed=0):
    """A colourful picture with edges, gradients and a little noise, [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    out = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x * 7 + y * 13 + seed * 31) % 256], -1)
    out[(x // 5 + y // 3) % 4 == 0] = [250, 20, 90]
    return np.clip(out + rng.integers(-9, 10, out.shape), 0, 255).astype(np.uint8)


def save(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- PNG, chunk by chunk -------------------------------------------------------------------------------------------

PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_rows(samples, depth, filters):
    """Packed and filtered rows of [height, width, channels] integers below 2**depth."""
    height, width, channels = samples.shape
    step = max(1, channels * depth // 8)
    previous = bytes((width * channels * depth + 7) // 8)
    out = b""
    for number, row in enumerate(samples):
        flat = row.reshape(-1)
        if depth == 16:
            raw = flat.astype(">u2").tobytes()
        elif depth == 8:
            raw = flat.astype(np.uint8).tobytes()
        else:
            bits = np.unpackbits(flat.astype(np.uint8)[:, None], axis=1)[:, 8 - depth:].reshape(-1)
            raw = np.packbits(bits).tobytes()
        kind = number % 5 if filters else 0
        coded = bytearray(raw)
        for i in range(len(raw)):
            left = raw[i - step] if i >= step else 0
            up = previous[i]
            corner = previous[i - step] if i >= step else 0
            estimate = left + up - corner
            nearest = min((abs(estimate - v), k) for k, v in enumerate((left, up, corner)))[1]
            guess = [0, left, up, (left + up) // 2, (left, up, corner)[nearest]][kind]
            coded[i] = (raw[i] - guess) & 255
        out += bytes([kind]) + bytes(coded)
        previous = raw
    return out


def png(samples, depth, colour, interlace=0, before=b"", after=b"", filters=True, split=1, idat=None, end=True):
    height, width = samples.shape[:2]
    samples = samples.reshape(height, width, CHANNELS[colour])
    if interlace:
        parts = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES]
        rows = b"".join(png_rows(p, depth, filters) for p in parts if p.size)
    else:
        rows = png_rows(samples, depth, filters)
    data = zlib.compress(rows) if idat is None else idat(rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    size = -(-len(data) // split)
    pieces = b"".join(chunk(b"IDAT", data[i:i + size]) for i in range(0, len(data), size))
    tail = chunk(b"IEND", b"") if end else b""
    return SIGNATURE + chunk(b"IHDR", header) + before + pieces + after + tail


def palette(entries, seed=3):
    return chunk(b"PLTE", np.random.default_rng(seed).integers(0, 256, entries * 3, dtype=np.uint8).tobytes())


def tiff(orientation, order="<", kind=3, count=1):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    codes = {1: "B3x", 3: "H2x", 4: "I", 6: "b3x", 8: "h2x", 9: "i", 11: "f"}
    value = struct.pack(order + codes[kind], orientation)
    return mark + struct.pack(order + "IH", 8, 1) + struct.pack(order + "HHI", 0x112, kind, count) + value + bytes(4)


def png_files():
    rng = np.random.default_rng(5)
    out = {}
    for colour, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            for interlace in (0, 1):
                for width, height in ((13, 11), (1, 1), (3, 9)):
                    values = rng.integers(0, 2**depth, (height, width, CHANNELS[colour]))
                    before = palette(2**depth) if colour == 3 else b""
                    name = f"png_c{colour}_d{depth}_i{interlace}_{width}x{height}.png"
                    out[name] = png(values, depth, colour, interlace, before)
    index = rng.integers(0, 200, (9, 12, 1))
    grey = rng.integers(0, 256, (9, 12, 1))
    rgb = rng.integers(0, 256, (9, 12, 3))
    rgba = rng.integers(0, 256, (9, 12, 4))
    rgba[:5, :, 3] = 0  # hidden colours
    text = lambda name, data: chunk(name, data)
    profile = lambda data: chunk(b"iCCP", b"p\0\0" + data)
    xmp = b'<x tiff:Orientation="6"/>'
    actl, fctl = struct.pack(">II", 2, 0), struct.pack(">IIIIIHHBB", 0, 12, 9, 0, 0, 1, 10, 0, 0)
    second = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 1, 12, 9, 0, 0, 1, 10, 0, 0))
    frame = chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(png_rows(255 - rgb, 8, False)))
    out |= {
        "png_palette_short.png": png(index, 8, 3, before=palette(100)),
        "png_palette_none.png": png(index, 8, 3),
        "png_palette_alpha.png": png(index, 8, 3, before=palette(256) + chunk(b"tRNS", bytes(range(100)))),
        "png_palette_key.png": png(index, 8, 3, before=palette(256) + chunk(b"tRNS", b"\xff\xff\0\xff")),
        "png_grey_key.png": png(grey, 8, 0, before=chunk(b"tRNS", b"\0\x07")),
        "png_rgb_key.png": png(rgb, 8, 2, before=chunk(b"tRNS", rgb[0, 0].astype(">u2").tobytes())),
        "png_rgb_suggested_palette.png": png(rgb, 8, 2, before=palette(9)),
        "png_hidden_colours.png": png(rgba, 8, 6),
        "png_many_idat.png": png(rgb, 8, 2, split=40),
        "png_empty_idat.png": png(rgb, 8, 2, before=chunk(b"IDAT", b"")),
        "png_trailing.png": png(rgb, 8, 2) + b"left over" * 20,
        "png_no_end.png": png(rgb, 8, 2, end=False),
        "png_private.png": png(rgb, 8, 2, before=chunk(b"teSt", b"x"), after=chunk(b"xyZw", b"y")),
        "png_critical.png": png(rgb, 8, 2, before=chunk(b"TEST", b"x")),
        "png_srgb_odd.png": png(rgb, 8, 2, before=chunk(b"sRGB", b"\x09") * 2 + chunk(b"gAMA", bytes(4))),
        "png_icc_not_zlib.png": png(rgb, 8, 2, before=profile(b"nonsense")),
        "png_icc.png": png(rgb, 8, 2, before=profile(zlib.compress(bytes(3000)))),
        "png_text.png": png(rgb, 8, 2, before=text(b"tEXt", b"a\0b") + text(b"zTXt", b"a\0\0" + zlib.compress(b"q" * 9000))),
        "png_text_broken.png": png(rgb, 8, 2, before=text(b"zTXt", b"a\0\0nonsense") + text(b"iTXt", b"") + text(b"tEXt", b"")),
        "png_crc_tail.png": png(rgb, 8, 2, after=chunk(b"tEXt", b"a\0b")[:-1] + b"!"),
        "png_crc_idat.png": (lambda f: f[:-14] + b"\0\0" + f[-12:])(png(rgb, 8, 2)),
        "png_adler.png": png(rgb, 8, 2, idat=lambda rows: zlib.compress(rows)[:-1] + b"!"),
        "png_rows_left_over.png": png(rgb, 8, 2, idat=lambda rows: zlib.compress(rows + bytes(500))),
        "png_stored.png": png(rgb, 8, 2, idat=lambda rows: zlib.compress(rows, 0)),
        "png_apng.png": png(rgb, 8, 2, before=chunk(b"acTL", actl) + chunk(b"fcTL", fctl), after=second + frame),
        "png_apng_default.png": png(rgb, 8, 2, before=chunk(b"acTL", actl), after=chunk(b"fcTL", fctl)),
        "png_apng_one.png": png(rgb, 8, 2, before=chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(b"fcTL", fctl)),
        "png_exif_late.png": png(rgb, 8, 2, after=chunk(b"eXIf", tiff(6))),
        "png_exif_broken.png": png(rgb, 8, 2, before=chunk(b"eXIf", tiff(6)[:14])),
        "png_exif_raw.png": png(rgb, 8, 2, before=text(b"tEXt", b"Raw profile type exif\0\nexif\n  26\n" + (b"Exif\0\0" + tiff(8)).hex().encode())),
        "png_xmp.png": png(rgb, 8, 2, before=text(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
        "png_xmp_zipped.png": png(rgb, 8, 2, before=text(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp))),
        "png_xmp_and_exif.png": png(rgb, 8, 2, before=chunk(b"eXIf", tiff(3)) + text(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
    }
    for kind, order, count in ((1, "<", 1), (4, "<", 1), (6, ">", 1), (8, ">", 1), (9, "<", 1), (11, ">", 1), (3, ">", 2), (3, "<", 0)):
        out[f"png_exif_type{kind}_{'be' if order == '>' else 'le'}_{count}.png"] = png(rgb, 8, 2, before=chunk(b"eXIf", tiff(6, order, kind, count)))
    return out


# --- JPEG ----------------------------------------------------------------------------------------------------------

def jpeg_segments(data):
    """[(marker, payload or entropy-coded bytes after SOS)]."""
    out, at = [], 2
    while at < len(data):
        marker = data[at + 1]
        at += 2
        if marker == 0xD9:
            return out
        size = struct.unpack(">H", data[at:at + 2])[0]
        payload = data[at + 2:at + size]
        at += size
        if marker == 0xDA:
            end = at
            while not (data[end] == 0xFF and data[end + 1] != 0 and not 0xD0 <= data[end + 1] <= 0xD7):
                end += 1
            out.append((marker, payload, data[at:end]))
            at = end
        else:
            out.append((marker, payload, b""))
    return out


def jpeg_join(segments, end=b"\xff\xd9"):
    out = b"\xff\xd8"
    for marker, payload, coded in segments:
        out += struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + coded
    return out + end


def jpeg_resampled(data, factors, width, height):
    """The same coded blocks under other sampling factors: a valid file of another shape."""
    out = []
    for marker, payload, coded in jpeg_segments(data):
        if marker == 0xC0 or marker == 0xC2:
            frame = bytearray(payload)
            frame[1:5] = struct.pack(">HH", height, width)
            for i, factor in enumerate(factors):
                frame[7 + 3 * i] = factor
            payload = bytes(frame)
        out.append((marker, payload, coded))
    return jpeg_join(out)


def jpeg_by_component(pixels, factors=((1, 1),) * 3, keep=3):
    """Baseline with one scan a component, from grey files that share their tables: any sampling factors, given as
    (horizontal, vertical). `keep` scans of three are written."""
    height, width = pixels.shape[:2]
    most_h, most_v = (max(f[i] for f in factors) for i in (0, 1))
    out, scans, frame = [], [], b""
    for i, (h, v) in enumerate(factors):
        size = -(-width * h // most_h), -(-height * v // most_v)
        plane = Image.fromarray(pixels[..., i]).resize(size, Image.Resampling.BOX)
        segments = jpeg_segments(save(plane, "JPEG", quality=80))
        out = out or [s for s in segments if s[0] in (0xDB, 0xC4)]
        frame += bytes([i + 1, h << 4 | v, 0])
        scans.append((0xDA, bytes([1, i + 1, 0, 0, 63, 0]), next(c for m, _, c in segments if m == 0xDA)))
    header = b"\x08" + struct.pack(">HHB", height, width, 3) + frame
    return jpeg_join(out + [(0xC0, header, b"")] + scans[:keep])


def insert_after_soi(data, *segments):
    return jpeg_join(list(segments) and [(m, p, b"") for m, p in segments])[:-2] + data[2:]


def jpeg_files():
    out = {}
    for seed, (width, height) in enumerate(((1, 1), (8, 8), (17, 13), (64, 48), (65, 33))):
        image = Image.fromarray(pattern(width, height, seed))
        for sampling in (0, 1, 2):
            for progressive in (False, True):
                name = f"jpeg_s{sampling}_p{int(progressive)}_{width}x{height}.jpg"
                out[name] = save(image, "JPEG", quality=85, subsampling=sampling, progressive=progressive)
        for progressive in (False, True):
            out[f"jpeg_grey_p{int(progressive)}_{width}x{height}.jpg"] = save(image.convert("L"), "JPEG", progressive=progressive)
            out[f"jpeg_cmyk_p{int(progressive)}_{width}x{height}.jpg"] = save(image.convert("CMYK"), "JPEG", progressive=progressive)
    image = Image.fromarray(pattern(64, 64, 9))
    half, quarter, full = (save(image, "JPEG", quality=90, subsampling=s) for s in (1, 2, 0))
    slow = save(image, "JPEG", quality=90, subsampling=2, progressive=True)
    cmyk = save(image.convert("CMYK"), "JPEG", quality=90)
    ycck = cmyk.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2")
    assert ycck != cmyk
    out |= {
        "jpeg_440.jpg": jpeg_resampled(half, (0x12, 0x11, 0x11), 32, 128),
        "jpeg_440_odd.jpg": jpeg_resampled(half, (0x12, 0x11, 0x11), 27, 123),
        "jpeg_411.jpg": jpeg_resampled(quarter, (0x41, 0x11, 0x11), 128, 32),
        "jpeg_411_odd.jpg": jpeg_resampled(quarter, (0x41, 0x11, 0x11), 119, 31),
        "jpeg_414.jpg": jpeg_resampled(quarter, (0x14, 0x11, 0x11), 32, 128),
        "jpeg_equal_factors.jpg": jpeg_resampled(full, (0x11, 0x11, 0x11), 61, 59),
        "jpeg_ycck.jpg": ycck,
        "jpeg_cmyk_no_adobe.jpg": jpeg_join([s for s in jpeg_segments(cmyk) if s[0] != 0xEE]),
        "jpeg_rgb_adobe.jpg": insert_after_soi(jpeg_join([s for s in jpeg_segments(full) if s[0] != 0xE0]), (0xEE, b"Adobe\0\x64\0\0\0\0\0")),
        "jpeg_rgb_ids.jpg": save(image, "JPEG", keep_rgb=True, subsampling=0),
        "jpeg_grey_2x2.jpg": jpeg_resampled(save(image.convert("L"), "JPEG"), (0x22,), 64, 64),
        "jpeg_restart_blocks.jpg": save(image, "JPEG", restart_marker_blocks=1),
        "jpeg_restart_rows.jpg": save(image, "JPEG", restart_marker_rows=1, progressive=True),
        "jpeg_optimized.jpg": save(image, "JPEG", optimize=True, quality=30),
        "jpeg_q1.jpg": save(image, "JPEG", quality=1),
        "jpeg_q100.jpg": save(image, "JPEG", quality=100, subsampling=0),
        "jpeg_trailing.jpg": quarter + b"left over" * 100,
        "jpeg_two.jpg": quarter + full,
        "jpeg_fill_bytes.jpg": quarter[:2] + b"\xff\xff\xff" + quarter[2:],
        "jpeg_junk_between.jpg": quarter[:2] + b"\xff\xd8" + quarter[2:],
        "jpeg_odd_app.jpg": insert_after_soi(quarter, (0xE7, b"?" * 300), (0xEB, b""), (0xFE, b"\xff\xd9\xff\xda")),
        "jpeg_app_nested.jpg": insert_after_soi(quarter, (0xE3, full[:500])),
        "jpeg_icc_parts.jpg": save(image, "JPEG", icc_profile=bytes(70000))[:],
        "jpeg_xmp.jpg": insert_after_soi(quarter, (0xE1, b"http://ns.adobe.com/xap/1.0/\0<a><tiff:Orientation>8</tiff:Orientation></a>")),
        "jpeg_exif_no_tag_xmp.jpg": insert_after_soi(quarter, (0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"), (0xE1, b'http://ns.adobe.com/xap/1.0/\0tiff:Orientation="3"')),
        "jpeg_exif_two_segments.jpg": insert_after_soi(quarter, (0xE1, b"Exif\0\0" + tiff(6)[:15]), (0xE1, b"Exif\0\0" + tiff(6)[15:])),
        "jpeg_slow.jpg": slow,
        "jpeg_long_thin.jpg": save(Image.fromarray(pattern(700, 1, 2)), "JPEG"),
        "jpeg_tall_thin.jpg": save(Image.fromarray(pattern(1, 700, 2)), "JPEG"),
    }
    mixed = {"444": ((1, 1), (1, 1), (1, 1)), "420": ((2, 2), (1, 1), (1, 1)), "mixed": ((2, 2), (1, 2), (2, 1)), "441": ((4, 4), (2, 1), (1, 1)),
             "small_luma": ((1, 1), (2, 2), (1, 1)), "410": ((4, 2), (1, 1), (1, 1)), "421": ((4, 1), (2, 1), (1, 1)), "311": ((3, 1), (1, 1), (1, 1)),
             "tall": ((1, 4), (1, 1), (1, 2)), "doubled": ((2, 2), (2, 2), (2, 2)), "fraction": ((3, 1), (2, 1), (1, 1))}
    for name, factors in mixed.items():
        for width, height in ((40, 24), (37, 29)):
            out[f"jpeg_scans_{name}_{width}.jpg"] = jpeg_by_component(pattern(width, height, 3), factors)
    out["jpeg_mpo.jpg"] = save(image, "MPO", save_all=True, append_images=[Image.fromarray(pattern(64, 64, 5))])
    return out


# --- WebP and orientation -------------------------------------------------------------------------------------------

def webp_files():
    out = {}
    for seed, (width, height) in enumerate(((1, 1), (16, 16), (33, 21), (64, 48))):
        rgb = Image.fromarray(pattern(width, height, seed + 20))
        alpha = Image.fromarray((np.indices((height, width)).sum(0) * 40 % 256).astype(np.uint8))
        rgba = rgb.copy()
        rgba.putalpha(alpha)
        for name, image in (("rgb", rgb), ("rgba", rgba)):
            out[f"webp_lossy_{name}_{width}x{height}.webp"] = save(image, "WEBP", quality=70)
            out[f"webp_lossless_{name}_{width}x{height}.webp"] = save(image, "WEBP", lossless=True, exact=True)
    frames = [Image.fromarray(pattern(40, 30, s)) for s in range(3)]
    small = Image.new("RGBA", (40, 30))
    small.paste(Image.fromarray(pattern(10, 8, 1)), (12, 6))
    out["webp_animated.webp"] = save(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=90)
    out["webp_animated_lossless.webp"] = save(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    out["webp_animated_small_frame.webp"] = save(small, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    out["webp_low_alpha_quality.webp"] = save(frames[0].convert("RGBA"), "WEBP", alpha_quality=1)
    out["webp_icc.webp"] = save(frames[0], "WEBP", icc_profile=bytes(500))
    out["webp_xmp.webp"] = save(frames[0], "WEBP", xmp=b'<x tiff:Orientation="5"/>')
    out["webp_trailing.webp"] = save(frames[0], "WEBP") + b"left over"
    return out


def oriented_files():
    out = {}
    image = Image.fromarray(pattern(23, 14, 50))
    for orientation in (*range(0, 10), 65535):
        exif = Image.Exif()
        exif[0x112] = orientation
        for kind, name in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
            if name == "jpg" or orientation < 9:
                options = {"lossless": True} if kind == "WEBP" else {}
                out[f"orient_{orientation}.{name}"] = save(image, kind, exif=exif, **options)
    exif = Image.Exif()
    exif[0x112] = 6
    out["orient_6_grey.png"] = save(image.convert("L"), "PNG", exif=exif)
    out["orient_7_palette.png"] = save(image.quantize(40), "PNG", exif=exif)
    out["orient_6_cmyk.jpg"] = save(image.convert("CMYK"), "JPEG", exif=exif)
    return out


def readable():
    return png_files() | jpeg_files() | webp_files() | oriented_files()
