#!/usr/bin/env python3
"""Tokenizer goldens: what the pinned `tokenizers` library says about hard texts (docs/fidelity.md has the format).

    make_tokenizer_cases.py cases DIR --out FILE [--seed N] [--random N]
        writes cases for DIR/tokenizer.json: hand-picked texts, look-alikes of its special tokens, random texts, and
        decoding of ids that are not valid UTF-8 as a whole.
    make_tokenizer_cases.py classes FILE
        writes which code points character classes, normalisers and pre-tokenizers take, as counts and CRCs over all of
        them, and what hard patterns match in hard texts.
    make_tokenizer_cases.py train DIR
        trains the small tokenizers of the tests into DIR/NAME/ (byte-level in the styles of Llama 3, GPT-2 and o200k,
        Llama 2 with byte fallback, Metaspace with NFKC, CLIP) and writes their cases.json.

Deterministic: the same library and seed give the same files.
"""
import argparse
import json
import pathlib
import random
import zlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

CORPUS = """
The quick brown fox jumps over the lazy dog; the dog doesn't mind, and they've seen it 1234 times before.
What is in this picture? There is a red circle to the left of a blue square, and a green triangle above them.
I'll say it again: we're counting 3 apples, 12 pears and 100 plums. It's what you'd expect, isn't it?
How many shapes are there? Seven. Which colour is the largest one? It is yellow, with a black border.
Il était une fois, à l'orée d'une forêt, une petite fille qui préférait les crêpes aux gâteaux.
Größere Übungen führen zu schöneren Ergebnissen, weiß der Straßenbauer. Ein Mädchen hört Vögel zwitschern.
El niño comió una piña mañana por la mañana. ¿Dónde está la señora? ¡Qué lástima!
Привет, мир! Быстрая коричневая лиса перепрыгивает через ленивую собаку. Сколько будет два плюс два?
今日は天気がいいですね。猫が窓のそばで眠っています。写真には何が写っていますか。
这张图片里有什么？左边是一个红色的圆形，右边是一个蓝色的正方形。一共有多少个？
이 사진에는 무엇이 있습니까? 빨간색 원과 파란색 사각형이 있습니다.
def main(argv):\n    for i in range(10):\n        print(f"{i:>4}: {argv[i]}")\n    return {"a": [1, 2, 3], "b": None}\n
#include <vector>\n\nint main() { std::vector<int> v{1, 2, 3}; return v.size() == 3 ? 0 : 1; }\n
https://example.org/path?query=1&other=two#fragment user@example.com 2026-11-24T05:23:00Z 3.14159 1,000,000
Yes. No. Left. Right. Above. Below. Nothing. One. Two. Three. Four. Five. A picture of a cat on a mat.
😀 😀 🎉 👍🏽 café naïve résumé — “quoted” ‘single’ … ½ ² № €100 £20 ¥3000
"""

TEXTS = [
    "", " ", "  ", "\n", "\r\n", "\t", "a", "A", " a", "a ", "Hello world", "hello  world", "hello   world   ", "\n\n\n",
    " \n \n x", "x\r\n\r\ny", "a\u00a0b", "\u3000全角\u3000", "\u2028line\u2029para", "\x85next", "\u200bzero\u200dwidth\ufeff",
    "don't DON'T Don'T we'll WE'LL I'm i'M they've you're he'd", "'s 'S 'ſ 't'm'll", "’s curly ’ll", "''''", "it's's's",
    "1", "12", "123", "1234", "12345678901234567890", "1,234.56", "٣٤٥٦", "１２３４", "½²³¼Ⅷ①", "१२३४", "3rd 4th 0x1F",
    "naïve café", "nai\u0308ve cafe\u0301", "e\u0301\u0323", "e\u0323\u0301", "\u0301", "a\u0301\u0302\u0303\u0304\u0305",
    "Å\u212bA\u030a", "ﬁ ﬂ ﬀ ﬃ", "ＡＢＣ ａｂｃ", "ｶﾞｷﾞ ガギ", "가각 \u1100\u1161\u11a8 ㄱㅏ", "İstanbul ıI ẞß ΣΑΣ ς", "ǅ Ǆ ǆ",
    "Straße STRASSE", "Ω\u2126 K\u212a", "漢字かな交じり文、カタカナ。", "今日は123円です！", "中文和English混排", "한국어 문장입니다.",
    "Привет, как дела?", "שלום עולם", "مرحبا بالعالم", "สวัสดีชาวโลก", "नमस्ते दुनिया", "ქართული", "ᏣᎳᎩ", "𐍈𐍉 𝒜𝓑𝟘𝟙",
    "😀", "😀😀😀", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "👍🏽👍🏿", "❤️ ☺︎", "a😀b 😀 c", "\U0001f9d1\u200d\U0001f680",
    "\x00", "a\x00b", "\x01\x02\x1f\x7f", "\u0080\u009f\u00ad", "\ufffd", "\ufffe\uffff", "\U0010ffff", "\ue000\uf8ff", "\U000e0041",
    "<", "<|", "<|>", "</s", "<s>", "</s>", "<unk>", "<0x0A>", "<0x41><0x42>", "<pad>", "[INST] hi [/INST]", "<|eot_id|>", "<image>",
    "<|image|>", "▁", "▁▁a", "a▁b", "Ġ", "ĠaĊ", "a</w>", "</w>", "Ā", "¡¢£", "\u0100\u0143\u0144", "!!!", "...", "?!?!", "-----",
    "=====\n", "a/b\\c|d", "[](){}<>", "“quotes” ‘and’ «more»", "$100 €20 £3", "a+b=c", "#hash @user", "C++ C# F#", "e.g. i.e. etc.",
    "foo_bar fooBar FooBar FOO_BAR", "XMLHttpRequest iPhone", "HELLOworld helloWORLD", "    indented\n\tcode();\n}", "if(x){y++;}",
    "x" * 40, "ab" * 30, "aaaa bbbb " * 8, " " * 33, "\n" * 9 + " ", "a" + " " * 7 + "b", "1" * 33, "é" * 20, "漢" * 20, "😀" * 9,
    "\u0301" * 12, "a\u0301" * 12, "'s" * 12, "\t\t \t \n\t", " \r ", "\r\r\n", "\v\f", "a\vb\fc", "\u1680\u2000\u200a\u202f\u205f",
    "The quick brown fox jumps over the lazy dog.", "What is in this picture?", "Il était une fois, à l'orée d'une forêt",
    "https://example.org/path?query=1#x user@example.com", '{"a": [1, 2.5, null], "b": "c\\n"}', "2026-11-24T05:23:00Z",
]

POOLS = ["abc ABC'sStTdDmM", "    \n\r\t\u00a0\u3000\u2028\x85", "0123456789٣४½Ⅷ²", "éèüñßſİıΣςK\u0130", "漢字仮名かなカナ한국어",
         "\u0301\u0323\u0334\u093c\u20dd\ufe0f\u200d", "😀👩‍👧🇩🇪🏽", "<|>_-.,!?\"'()[]{}/\\@#$%^&*+=~`:;", "▁Ġ</w>", "اختبارשלוםไทยहिन्दी"]


def random_text(rng, tokens):
    length, text = rng.choice([1, 2, 3, 5, 8, 13, 30, 60]), ""
    while len(text) < length:
        kind = rng.random()
        if kind < 0.45:
            pool = rng.choice(POOLS)
            text += "".join(rng.choice(pool) for _ in range(rng.choice([1, 1, 2, 3, 6])))
        elif kind < 0.7:
            text += rng.choice(TEXTS[4:])[:12]
        elif kind < 0.83 and tokens:
            token = rng.choice(tokens)
            text += token if kind < 0.79 else token[:rng.randrange(1, len(token) + 1)]
        elif kind < 0.95:
            c = rng.randrange(0x3000) if kind < 0.9 else rng.randrange(0x110000)
            text += chr(c) if not 0xD800 <= c < 0xE000 else ""
        else:
            text += " " * rng.randrange(1, 6)
    return text


def look_alikes(token):
    return [token, f"a{token}b", f" {token} ", f"{token}{token}", token[:-1], token[1:], token.upper(), f"{token[0]} {token[1:]}",
            token.replace("|", "｜").replace("<", "＜"), f"  {token}\n\nx", f"{token[:2]}{token}"]


def encode(tokenizer, text, as_text=False, add=False):
    tokenizer.encode_special_tokens = as_text
    return tokenizer.encode(text, add_special_tokens=add).ids


def make_cases(directory, seed, random_count):
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rng = random.Random(seed)
    tokens = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    texts = list(TEXTS)
    for token in tokens[:6] + rng.sample(tokens, min(4, len(tokens))):
        texts += look_alikes(token)
    texts += [random_text(rng, tokens) for _ in range(random_count)]
    cases = []
    for i, text in enumerate(dict.fromkeys(texts)):
        ids, added = encode(tokenizer, text), encode(tokenizer, text, add=True)
        cases.append({"id": f"t{i}", "text": text, "ids": ids, "ids_with_specials_added": added,
                      "ids_special_as_text": encode(tokenizer, text, as_text=True),
                      "decode": tokenizer.decode(ids, skip_special_tokens=False),
                      "decode_skip_special": tokenizer.decode(added, skip_special_tokens=True)})
    size = tokenizer.get_vocab_size()
    bytes_like = [i for token, i in tokenizer.get_vocab().items() if len(token) == 6 and token.startswith("<0x")] or \
                 [i for token, i in tokenizer.get_vocab().items() if len(token) == 1]
    decode_cases = [{"ids": []}]
    for _ in range(random_count):
        length = rng.choice([1, 2, 3, 4, 8, 20])
        decode_cases.append({"ids": [rng.randrange(size + 2) if rng.random() < 0.5 else rng.choice(bytes_like) for _ in range(length)]})
    whole = encode(tokenizer, "漢字😀é" * 3)
    decode_cases += [{"ids": whole[:n]} for n in range(len(whole))] + [{"ids": whole[n:]} for n in range(len(whole))]
    for case in decode_cases:
        case["decode"] = tokenizer.decode(case["ids"], skip_special_tokens=False)
        case["decode_skip_special"] = tokenizer.decode(case["ids"], skip_special_tokens=True)
    return {"cases": cases, "decode_cases": decode_cases}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def trained_merges(normalizer, pre_tokenizer, size, alphabet=(), suffix=None):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    options = {"end_of_word_suffix": suffix} if suffix else {}
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), show_progress=False, **options)
    tokenizer.train_from_iterator(CORPUS.strip("\n").split("\n") * 2, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["merges"], [t for t, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]


def model_json(tokens, merges, **options):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    model |= options
    model |= {"vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}
    return model


def finish(directory, model, *, normalizer=None, pre_tokenizer=None, decoder=None, post=None, added=(), config=None, strings=False):
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None, "model": model}
    tokenizer = Tokenizer.from_str(json.dumps(base))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder:
        tokenizer.decoder = decoder
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    if post:
        tokenizer.post_processor = post(tokenizer)
    content = json.loads(tokenizer.to_str())
    if strings:  # the older way to write merges
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    write_json(directory / "tokenizer.json", content)
    write_json(directory / "tokenizer_config.json", config or {})


def special(*names, **options):
    return [AddedToken(name, special=True, normalized=False, **options) for name in names]


def template(single, *names):
    return lambda t: processors.TemplateProcessing(single=single, special_tokens=[(n, t.token_to_id(n)) for n in names])


def train(out):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())

    def split(pattern, behavior="isolated", invert=False):
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior, invert),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    # Llama 3: merges ignored for whole words, BOS by template
    merges, tokens = trained_merges(None, split(LLAMA3), 1200, alphabet)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|image|>",
             "<|reserved_special_token_1|>", "<|reserved_special_token_11|>"]
    # A token that no merge makes: only ignore_merges finds it
    finish(out / "llama3", model_json(tokens + ["Ġpicturesque"], merges, ignore_merges=True), pre_tokenizer=split(LLAMA3),
           decoder=decoders.ByteLevel(), added=special(*names),
           post=lambda t: processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                               template("<|begin_of_text|> $A", "<|begin_of_text|>")(t)]),
           config={"bos_token": names[0], "eos_token": names[4], "pad_token": {"content": names[6], "__type": "AddedToken"}})

    # GPT-2: its own pattern, a prefix space, merges as strings, an added token that is ordinary vocabulary
    merges, tokens = trained_merges(None, pre_tokenizers.ByteLevel(add_prefix_space=True), 900, alphabet)
    finish(out / "gpt2", model_json(tokens + ["<|endoftext|>"], merges), pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True),
           decoder=decoders.ByteLevel(), post=lambda t: processors.ByteLevel(trim_offsets=True), strings=True,
           added=special("<|endoftext|>") + [AddedToken("endof", normalized=False), AddedToken("picture", single_word=True),
                                             AddedToken("<tool>", lstrip=True, rstrip=True)],
           config={"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})

    # o200k with NFC, as Qwen has it
    merges, tokens = trained_merges(normalizers.NFC(), split(O200K), 1000, alphabet)
    finish(out / "o200k", model_json(tokens, merges), normalizer=normalizers.NFC(), pre_tokenizer=split(O200K),
           decoder=decoders.ByteLevel(), added=special("<|im_start|>", "<|im_end|>", "<|vision_start|>"),
           config={"eos_token": "<|im_end|>"})

    # Llama 2: no pre-tokenizer, one long piece, bytes for what the vocabulary lacks
    norm = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    merges, tokens = trained_merges(norm, pre_tokenizers.Metaspace(prepend_scheme="never"), 900)
    rare = set("漢字猫窓写真何有多少个左边红色圆形")  # left to byte fallback, with the tokens made of them
    tokens = [t for t in tokens if not set(t) & rare]
    merges = [m for m in merges if not set("".join(m)) & rare]
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    finish(out / "llama2", model_json(["<unk>", "<s>", "</s>"] + bytes_ + tokens, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True),
           normalizer=norm, decoder=decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                                       decoders.Strip(" ", 1, 0)]),
           added=special("<unk>", "<s>", "</s>") + special("<image>") + [AddedToken("<fake_token_around_image>", special=True, normalized=True)],
           post=template("<s> $A", "<s>"), config={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None})

    # Metaspace at the first word only, NFKC, unknown characters fused, every flag of added tokens
    norm = normalizers.Sequence([normalizers.NFKC(), normalizers.StripAccents(), normalizers.Strip()])
    pre = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Digits(individual_digits=True)])
    merges, tokens = trained_merges(norm, pre, 800)
    finish(out / "metaspace", model_json(["<unk>"] + tokens, merges, unk_token="<unk>", fuse_unk=True), normalizer=norm, pre_tokenizer=pre,
           decoder=decoders.Metaspace(prepend_scheme="first"),
           added=[AddedToken("<mask>", special=True, lstrip=True, normalized=False), AddedToken("<sep>", special=True, rstrip=True, normalized=True),
                  AddedToken("Éclair", normalized=True), AddedToken("cat", single_word=True, normalized=False),
                  AddedToken("ab", normalized=False), AddedToken("abc", normalized=False)] + special("<unk>", "<s>", "</s>"),
           post=template("<s> $A </s>", "<s>", "</s>"), config={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})

    # CLIP: lower case, a suffix at the end of words
    norm = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    pre = split(CLIP, "removed", True)
    merges, tokens = trained_merges(norm, pre, 700, alphabet, "</w>")
    letters = alphabet + [c + "</w>" for c in alphabet]
    tokens = letters + [t for t in tokens if t not in set(letters)]
    names = ["<|startoftext|>", "<|endoftext|>"]
    finish(out / "clip", model_json(tokens + names, merges, unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix=""),
           normalizer=norm, pre_tokenizer=pre, decoder=decoders.ByteLevel(), added=special(*names),
           post=lambda t: processors.RobertaProcessing((names[1], t.token_to_id(names[1])), (names[0], t.token_to_id(names[0])), False, False),
           config={"bos_token": names[0], "eos_token": names[1], "unk_token": names[1], "pad_token": names[1]})
    for directory in sorted(p for p in out.iterdir() if (p / "tokenizer.json").exists()):
        write_json(directory / "cases.json", make_cases(directory, 1, 60))


CLASSES = [r"\p{L}", r"\p{Lu}", r"\p{Ll}", r"\p{Lt}", r"\p{Lm}", r"\p{Lo}", r"\p{M}", r"\p{Mn}", r"\p{N}", r"\p{Nd}", r"\p{Nl}", r"\p{No}",
           r"\p{P}", r"\p{Ps}", r"\p{S}", r"\p{Sc}", r"\p{Z}", r"\p{C}", r"\p{Cn}", r"\p{Han}", r"\p{Hiragana}", r"\p{Latin}",
           r"\p{Cyrillic}", r"\p{Common}", r"\p{Emoji}", r"\p{Alphabetic}", r"\p{Letter}", r"\p{Decimal_Number}", r"\p{^L}", r"\P{N}",
           r"\s", r"\S", r"\d", r"\D", r"\w", r"\W", r"\h", r".", r"\N", r"\O", r"[[:alpha:]]", r"[[:punct:]]", r"[[:^word:]]", r"[[:space:]]",
           r"[[:upper:]]", r"[[:print:]]", r"[^\s\p{L}\p{N}]", r"[^\r\n\p{L}\p{N}]", r"[\p{L}&&[^a-z]]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
           r"(?i:s)", r"(?i:k)", r"(?i:[a-z])", r"(?i:\p{Lu})", r"(?i:[^s])", r"(?i:Σ)", r"(?i)å", r"[一-龥぀-ゟ゠-ヿ]"]

PATTERNS = [
    LLAMA3, O200K, CLIP, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"\w+|[^\w\s]+", r"\b", r"\B.", r"\bfoo\b", r"^.", r".$", r"\A.", r".\z", r"^", r"$", r"(?m).+", r"(?<=a)b", r"(?<!a)b", r"(?<=\s)\S|^\S",
    r"a(?=b)", r"a(?!b)", r"a(?=b|$)", r"a|ab", r"ab|a", r"(a|ab)(c|bcd)", r"a*?b", r"a+?", r"a??b", r"a{2}", r"a{2,}", r"a{,2}", r"a{2,3}?", r"a{2}?",
    r"a{2}+", r"a{x}", r"{", r"(?:a|b)*c", r"(a*)*", r"(a|b*)+", r"(?:)", r"x*", r"a++b", r"a*+b", r"a?+b", r"(?>a+)b", r"(?>a)b", r"(?i)ab|cd",
    r"a(?i)b|c", r"(?i:a)b", r"(?i:a(?-i:b))", r"(?#note)a", r"(?<name>a)b", r"[]a]", r"[a-]", r"[-a]", r"[a\-z]", r"[\]\[]", r"[^^]", r"[a&&b]",
    r"[a-c&&b-d]", r"[[a-c][x-z]]", r"[^[a-c][x-z]]", r"\x41", r"\x{1F600}", r"\u6f22", r"\t|\n|\r|\f|\v|\a|\e", r"\.|\*|\/|\-|\@", r"\p{Greek}+",
    r"\p{Arabic}+|\p{Hebrew}+|\p{Thai}+", r"[^\p{L}\s]+", r"\s+$", r"\s+(?=\S)", r"(?:\r?\n)+", r"(?<![\p{L}\p{N}])\p{N}+",
    r"'(?:[sdmt]|ll|ve|re)", r" ?\p{L}+(?:'\p{L}+)?", r"\p{Lu}?\p{Ll}+|\p{Lu}+(?!\p{Ll})", r"[\u4e00-\u9fff]", r".{5}", r".{1,7}|\n", r"(?:ab)+|a|b",
]

PATTERN_TEXTS = TEXTS[3:] + ["ab", "aab", "abcd", "ababa", "aaaaab", "xaby", "foo food foo-foo", "bab\nab\n", "a{x}b", "ABab cD CD Cd", "[a-z]^&", "a.b*c/d-e@f"]


def crc_of(items):
    crc = 0
    for item in items:
        crc = zlib.crc32(item.encode() + b"\xff", crc)
    return crc


def make_classes():
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    chunks = ["".join(points[i:i + 4096]) for i in range(0, len(points), 4096)]

    def taken(pattern):
        splitter = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed", invert=True)
        return [c for chunk in chunks for piece, _ in splitter.pre_tokenize_str(chunk) for c in piece]

    classes = []
    for pattern in CLASSES:
        chars = taken(pattern)
        classes.append({"pattern": pattern, "count": len(chars), "crc": crc_of(chars)})
    norm = []
    for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "ByteLevel"):
        n = getattr(normalizers, kind)()
        norm.append({"type": kind, "alone": crc_of(map(n.normalize_str, points)),
                     "in_context": crc_of(n.normalize_str(f"a{c}\u0323\u0301\u0334 \u1100{c}\u1161") for c in points)})
    pre = []
    for config, p in (({"type": "Digits", "individual_digits": True}, pre_tokenizers.Digits(True)),
                      ({"type": "Punctuation", "behavior": "Isolated"}, pre_tokenizers.Punctuation("isolated")),
                      ({"type": "Whitespace"}, pre_tokenizers.Whitespace()),
                      ({"type": "WhitespaceSplit"}, pre_tokenizers.WhitespaceSplit()),
                      ({"type": "BertPreTokenizer"}, pre_tokenizers.BertPreTokenizer()),
                      ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, pre_tokenizers.ByteLevel(add_prefix_space=False))):
        pre.append({"config": config, "crc": crc_of(piece for c in points for piece, _ in p.pre_tokenize_str(f"a{c}1 {c}.{c}"))})
    matches = []
    for pattern in PATTERNS:
        splitter = pre_tokenizers.Split(Regex(pattern), "isolated")
        matches.append({"pattern": pattern, "pieces": [[piece for piece, _ in splitter.pre_tokenize_str(text)] for text in PATTERN_TEXTS]})
    behaviours = []
    for behaviour in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            for pattern in ({"Regex": r"\d|\s"}, {"Regex": r"\p{L}+"}, {"String": " "}, {"String": "."}, {"Regex": r"x*"}):
                name = {"MergedWithPrevious": "merged_with_previous", "MergedWithNext": "merged_with_next"}.get(behaviour, behaviour.lower())
                source = pattern.get("String", None)
                splitter = pre_tokenizers.Split(source if source else Regex(pattern["Regex"]), name, invert)
                behaviours.append({"config": {"type": "Split", "pattern": pattern, "behavior": behaviour, "invert": invert},
                                   "pieces": [[piece for piece, _ in splitter.pre_tokenize_str(text)] for text in BEHAVIOUR_TEXTS]})
    return {"classes": classes, "normalizers": norm, "pre_tokenizers": pre, "texts": PATTERN_TEXTS, "patterns": matches,
            "behaviour_texts": BEHAVIOUR_TEXTS, "behaviours": behaviours}


BEHAVIOUR_TEXTS = ["a", " ", "1", "a1", "1a", "a 1 b", "  a  ", "..", ".a.", "a..b", "12 34", "xx", "axxb", "the final. countdown 1.2", "é.è"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    cases = commands.add_parser("cases")
    cases.add_argument("directory", type=pathlib.Path)
    cases.add_argument("--out", type=pathlib.Path, required=True)
    cases.add_argument("--seed", type=int, default=1)
    cases.add_argument("--random", type=int, default=200)
    commands.add_parser("classes").add_argument("file", type=pathlib.Path)
    commands.add_parser("train").add_argument("directory", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.command == "train":
        train(arguments.directory)
    elif arguments.command == "classes":
        write_json(arguments.file, make_classes())
    else:
        write_json(arguments.out, make_cases(arguments.directory, arguments.seed, arguments.random))


if __name__ == "__main__":
    main()
