#!/usr/bin/env python3
"""Writes text/unicode_tables.cc: the character classes of the pinned `tokenizers` release, by asking that release.

Each set is found by running a pattern (or a pre-tokenizer, or a normaliser) of the library over every code point, so the
table has whatever Unicode version the release was built with; several are in use at once (the regex engine's, the
standard library's, the normaliser's). Run in the reference environment (tools/reference_venv.sh):

    build/reference-venv/bin/python tools/generate_unicode_tables.py [--check]

--check: write nothing, exit 1 if the committed table differs.
"""
import argparse
import ctypes
import ctypes.util
import pathlib
import sys

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "text" / "unicode_tables.cc"
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CHUNKS = [POINTS[i:i + 8192] for i in range(0, len(POINTS), 8192)]

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
PATTERNS = {
    "word": r"\w", "space": r"\s", "alpha": r"[[:alpha:]]", "alnum": r"[[:alnum:]]", "upper": r"[[:upper:]]",
    "lower": r"[[:lower:]]", "punct_bracket": r"[[:punct:]]", "word_bracket": r"[[:word:]]", "blank": r"[[:blank:]]",
    "cntrl": r"[[:cntrl:]]", "graph": r"[[:graph:]]", "print": r"[[:print:]]", "emoji": r"\p{Emoji}",
    "extendedpictographic": r"\p{Extended_Pictographic}",
}
SCRIPTS = """Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki
Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian
Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs
Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul
Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian
Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha
Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi
Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar
Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian
Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage
Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada
Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le
Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi
Wancho Warang_Citi Yezidi Yi Zanabazar_Square""".split()


def ranges(points):
    """Sorted code points as closed ranges; the surrogates, which no text holds, do not interrupt one."""
    out = []
    for c in points:
        if out and (out[-1][1] + 1 == c or (out[-1][1] == 0xD7FF and c == 0xE000)):
            out[-1][1] = c
        else:
            out.append([c, c])
    return [tuple(r) for r in out]


def matched(pattern):
    """All code points that a one-character pattern matches."""
    splitter = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed", invert=True)
    for chunk in CHUNKS:
        for _, (begin, end) in splitter.pre_tokenize_str("".join(map(chr, chunk))):
            yield from chunk[begin:end]


def pieces_of(pre_tokenizer, wanted):
    """Code points for which `wanted(pieces of "a" + c + "a")` holds."""
    return [c for c in POINTS if wanted([piece for piece, _ in pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")])]


def case_orbits():
    """Groups of code points that match each other under (?i:) one to one."""
    groups = {}
    for c in POINTS:
        char = chr(c)
        for other in {char.lower(), char.upper(), char.title(), char.casefold()}:
            if len(other) == 1 and other != char:
                groups.setdefault(c, set()).add(ord(other))
                groups.setdefault(ord(other), set()).add(c)
    seen, orbits = set(), []
    for c in sorted(groups):
        if c in seen:
            continue
        component, todo = set(), [c]
        while todo:
            x = todo.pop()
            if x not in component:
                component.add(x)
                todo += groups[x]
        seen |= component
        # What the library itself says about each pair decides
        members = sorted(component)
        left = set(members)
        while left:
            first = min(left)
            splitter = pre_tokenizers.Split(Regex(f"(?i:\\x{{{first:x}}})"), "removed", invert=True)
            orbit = {m for m in left if splitter.pre_tokenize_str("," + chr(m) + ",") and splitter.pre_tokenize_str(chr(m))[0][0] == chr(m)} | {first}
            left -= orbit
            if len(orbit) > 1:
                orbits.append(sorted(orbit))
    return sorted(orbits)


def multi_character_folds():
    """Code points that match more than one character under (?i:), and the sequences that match them."""
    out = []
    for c in POINTS:
        fold = chr(c).casefold()
        if len(fold) > 1:
            splitter = pre_tokenizers.Split(Regex(f"(?i:\\x{{{c:x}}})"), "removed", invert=True)
            found = splitter.pre_tokenize_str(fold)
            if found and found[0][0] == fold:
                out.append((c, fold))
    return out


def lowercase():
    normalizer = normalizers.Lowercase()
    return {c: low for c in POINTS if (low := normalizer.normalize_str(chr(c))) != chr(c)}


def mapping_runs(mapping):
    """{c: d} of single code points as (first, last, stride, delta)."""
    out = []
    for c, d in sorted(mapping.items()):
        if out:
            first, last, stride, delta = out[-1]
            if d - c == delta and (c - last == stride or (first == last and c - last in (1, 2))):
                out[-1] = (first, c, c - last, delta)
                continue
        out.append((c, c, 1, d - c))
    return out


class Utf8proc:
    """The normaliser that the build links; only what the library does not share with it needs a table."""
    def __init__(self):
        self.lib = ctypes.CDLL(ctypes.util.find_library("utf8proc") or "libutf8proc.so.2")
        self.lib.utf8proc_get_property.restype = ctypes.c_void_p
        self.buffer = (ctypes.c_int32 * 64)()

    def decompose(self, c, compat):
        boundary = ctypes.c_int(0)
        options = 1 << 1 | 1 << 4 | (1 << 2 if compat else 0)
        n = self.lib.utf8proc_decompose_char(ctypes.c_int32(c), self.buffer, ctypes.c_ssize_t(64), options, ctypes.byref(boundary))
        return "".join(chr(self.buffer[i]) for i in range(n))

    def combining_class(self, c):
        address = self.lib.utf8proc_get_property(ctypes.c_int32(c))
        return ctypes.c_int16.from_address(address + 2).value

    def compose(self, text):
        buffer = (ctypes.c_int32 * (len(text) + 4))(*map(ord, text))
        n = self.lib.utf8proc_normalize_utf32(buffer, ctypes.c_ssize_t(len(text)), 1 << 1 | 1 << 3)
        return "".join(chr(buffer[i]) for i in range(n))


def normalisation_exceptions():
    """Code points that the library leaves alone and utf8proc does not, for canonical and for compatibility forms."""
    proc = Utf8proc()
    nfd, nfkd, nfc = normalizers.NFD(), normalizers.NFKD(), normalizers.NFC()
    canonical, compat = set(), set()
    representatives = {}
    for c in POINTS:
        # One mark of each class that the library knows too
        if (k := proc.combining_class(c)) == 1 or (k > 1 and nfd.normalize_str("a" + chr(c) + "\u0334") == "a\u0334" + chr(c)):
            representatives.setdefault(k, c)
    for c in POINTS:
        char = chr(c)
        if nfd.normalize_str(char) != proc.decompose(c, False):
            assert nfd.normalize_str(char) == char, hex(c)
            canonical.add(c)
        if nfkd.normalize_str(char) != proc.decompose(c, True):
            assert nfkd.normalize_str(char) == nfd.normalize_str(char), hex(c)
            compat.add(c)
        k = proc.combining_class(c)
        if k == 0:
            assert nfd.normalize_str(char) != char or nfd.normalize_str("a" + char + "\u0334") == "a" + char + "\u0334", hex(c)
            continue
        if len(nfd.normalize_str(char)) > 1:
            continue
        for other, representative in representatives.items():
            pair = char + chr(representative)
            expected = pair[::-1] if other < k else pair
            if nfd.normalize_str("a" + pair) != "a" + nfd.normalize_str(expected[0]) + nfd.normalize_str(expected[1]):
                canonical.add(c)
    for c in POINTS:
        parts = proc.decompose(c, False)
        if len(parts) > 1 and not 0xAC00 <= c <= 0xD7A3:
            for text in (parts, proc.compose(parts[:-1]) + parts[-1]):
                ours, theirs = proc.compose(text), nfc.normalize_str(text)
                if ours != theirs:
                    assert theirs == text, (hex(c), ours, theirs)
                    canonical.update(map(ord, text))
                    canonical.add(c)
    return sorted(canonical), sorted(canonical | compat)


def emit_ranges(name, values):
    body, line = [], "   "
    for first, last in values:
        item = f" {{0x{first:X}, 0x{last:X}}},"
        if len(line) + len(item) > 100:
            body.append(line)
            line = "   "
        line += item
    body.append(line)
    return f"constexpr CodePointRange {name}[] = {{\n" + "\n".join(body) + "\n};\n"


def emit_items(declaration, items):
    body, line = [], "   "
    for item in items:
        item = f" {item},"
        if len(line) + len(item) > 100:
            body.append(line)
            line = "   "
        line += item
    body.append(line)
    return f"{declaration} = {{\n" + "\n".join(body) + "\n};\n"


def generate():
    sets = {name.lower(): ranges(matched(rf"\p{{{name}}}")) for name in CATEGORIES}
    sets |= {name: ranges(matched(pattern)) for name, pattern in PATTERNS.items()}
    for script in SCRIPTS:
        try:
            sets[script.replace("_", "").lower()] = ranges(matched(rf"\p{{{script}}}"))
        except Exception:  # a script that this release does not know yet
            print(f"not known to the library: {script}", file=sys.stderr)
    # The library's other character classes, each with its own Unicode version
    sets["#word"] = ranges(pieces_of(pre_tokenizers.Whitespace(), lambda p: len(p) == 1))
    sets["#whitespace"] = ranges(pieces_of(pre_tokenizers.WhitespaceSplit(), lambda p: p == ["a", "a"]))
    sets["#punctuation"] = ranges(pieces_of(pre_tokenizers.Punctuation("isolated"), lambda p: len(p) == 3))
    sets["#numeric"] = ranges(pieces_of(pre_tokenizers.Digits(True), lambda p: len(p) == 3))
    strip = normalizers.StripAccents()
    sets["#combining"] = ranges(c for c in POINTS if strip.normalize_str("a" + chr(c)) == "a")
    canonical, compat = normalisation_exceptions()
    sets["#not_nfd"], sets["#not_nfkd"] = ranges(canonical), ranges(compat)

    out = [f"""// Generated by tools/generate_unicode_tables.py from tokenizers {tokenizers.__version__}. Do not edit.
#include "text/unicode_tables.h"

namespace tessera {{
namespace {{

// clang-format off
"""]
    for i, (name, values) in enumerate(sets.items()):
        out.append(emit_ranges(f"kSet{i}", values or [(1, 0)]))
    out.append("// clang-format on\n\n}  // namespace\n\n// clang-format off\n")
    out.append("constexpr NamedCodePointSet kSets[] = {\n" + "".join(
        f'    {{"{name}", kSet{i}}},\n' for i, name in enumerate(sets)) + "};\n")
    orbits = case_orbits()
    flat = [f"0x{c:X}" for orbit in orbits for c in orbit + [0]]
    out.append(emit_items("constexpr uint32_t kOrbits[]", flat))
    folds = multi_character_folds()
    out.append(emit_items("constexpr MultiFold kFolds[]", [
        "{0x%X, {%s}}" % (c, ", ".join(f"0x{ord(x):X}" for x in fold)) for c, fold in folds]))
    lower = lowercase()
    single = {c: ord(low) for c, low in lower.items() if len(low) == 1}
    assert {c: low for c, low in lower.items() if len(low) > 1} == {0x130: "i\u0307"}
    out.append(emit_items("constexpr MappingRun kLower[]", [
        f"{{0x{a:X}, 0x{b:X}, {s}, {d}}}" for a, b, s, d in mapping_runs(single)]))
    out.append("""// clang-format on

std::span<const NamedCodePointSet> UnicodeSets() { return kSets; }
std::span<const uint32_t> CaseOrbits() { return kOrbits; }
std::span<const MultiFold> MultiFolds() { return kFolds; }
std::span<const MappingRun> LowercaseRuns() { return kLower; }

}  // namespace tessera
""")
    return "".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = generate()
    if arguments.check:
        sys.exit(OUTPUT.read_text() != text)
    OUTPUT.write_text(text)


if __name__ == "__main__":
    main()
