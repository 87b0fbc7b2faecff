"""The tokenizer: byte-level BPE in the style of Llama 3, trained on the questions and answers of the generator."""

import functools
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import chat
import questions
import scenes
import sprites
import vocabulary as v

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
VOCAB = 1024  # rows of the output head; <|image|> comes after it
NAMED = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
]
RESERVED = 16
TEMPLATE = (
    "{{- bos_token }}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}\n"
    "    {%- if message['content'] is string %}\n"
    "        {{- message['content'] | trim }}\n"
    "    {%- else %}\n"
    "        {%- for part in message['content'] %}\n"
    "            {%- if part['type'] == 'image' %}\n"
    "                {{- '<|image|>' }}\n"
    "            {%- elif part['type'] == 'text' %}\n"
    "                {{- part['text'] | trim }}\n"
    "            {%- endif %}\n"
    "        {%- endfor %}\n"
    "    {%- endif %}\n"
    "    {{- '<|eot_id|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
    "{%- endif %}\n"
)


def corpus() -> list[str]:
    """Sentences in which every word of the world is common enough to become a token. Texts to read stay out: they are spelt."""
    art, lines = sprites.load(), []
    for i in range(4000):
        rng = random.Random(f"corpus/{i}")
        scene = scenes.make_scene(rng, art, rng.choice(("single", "objects", "size", "count")), (1, 1))
        scene.glyphs, scene.text = [], ""
        for q in questions.ask_some(rng, scene, 6):
            lines += [q.text, q.answer_text]
        lines += list(chat.exchange(rng))
    nouns = v.EMOJI_NAMES + v.SHAPES + [c + " " + s for c in v.COLOUR_NAMES for s in v.SHAPES]
    for noun in nouns:
        lines += [f"{v.article(noun).capitalize()}. the {v.definite(noun)}, {v.plural(noun)}, {v.article(noun)}"] * 20
    lines += (
        ['It says ".', ' the text "', '". "'] * 500
        + chat.SYSTEMS * 50
        + ["user", "assistant", "system", "\n\n", "tool"] * 200
    )
    return lines


def build() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = NAMED + [f"<|reserved_special_token_{i}|>" for i in range(RESERVED)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - len(specials), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    while tokenizer.get_vocab_size() + len(specials) < VOCAB:  # fewer merges than asked for
        specials.append(f"<|reserved_special_token_{len(specials) - len(NAMED)}|>")
    specials.append("<|image|>")
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    assert tokenizer.token_to_id("<|image|>") == VOCAB
    return tokenizer


class Text:
    """Token ids of the pieces that training puts together."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.image = VOCAB
        self.pad = tokenizer.token_to_id("<|finetune_right_pad_id|>")
        self.eot = tokenizer.token_to_id("<|eot_id|>")
        self.bos = tokenizer.token_to_id("<|begin_of_text|>")
        self.user, self.assistant, self.system = (self.header(r) for r in ("user", "assistant", "system"))

    def header(self, role: str) -> list[int]:
        return self.ids(f"<|start_header_id|>{role}<|end_header_id|>\n\n")

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    @functools.lru_cache(maxsize=100_000)
    def plain(self, text: str) -> tuple[list[int], list[int]]:
        """Ids and the character where each token starts."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, [a for a, _ in encoding.offsets]


if __name__ == "__main__":
    made = build()
    made.save(str(sprites.CACHE.parent / "tokenizer.json"))
    print(
        made.encode('It says "EXIT42".').tokens,
        made.encode("Is the purple circle left of the ice cream?").tokens,
        made.get_vocab_size(),
    )
