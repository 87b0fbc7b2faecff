"""Tiny random models: each one stands for a corner of what a config may say. make_random_model.py writes them."""
from golden import tiny_tokenizer

_IDS = tiny_tokenizer.ids()
_VOCAB = _IDS["vocab"]
_TEXT = {"vocab_size": _VOCAB, "bos_token_id": _IDS["<|begin_of_text|>"], "pad_token_id": _IDS["<|finetune_right_pad_id|>"],
         "eos_token_id": [_IDS["<|eot_id|>"], _IDS["<|end_of_text|>"]], "max_position_embeddings": 512}


def ratios(tiles):
    return [[high, wide] for high in range(1, tiles + 1) for wide in range(1, tiles + 1) if high * wide <= tiles]


def mllama(text, vision):
    vision = {"supported_aspect_ratios": ratios(vision["max_num_tiles"]), **vision}
    vision["vision_output_dim"] = vision["hidden_size"] * (1 + len(vision["intermediate_layers_indices"]))
    return {"family": "mllama", "text": {**_TEXT, **text}, "vision": vision}


def llama(text):
    return {"family": "llama", "text": {**_TEXT, **text}}


MODELS = {
    # Head widths that do not divide, so that no projection is square; odd vision heads; a tile of 23 pixels in patches of
    # 5; negative, repeated and unordered layer indices
    "mllama-odd": {
        **mllama(dict(hidden_size=26, num_attention_heads=3, num_key_value_heads=1, intermediate_size=34,
                      num_hidden_layers=4, cross_attention_layers=[1, 3],
                      rope_parameters=dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0,
                                           high_freq_factor=4.0, original_max_position_embeddings=64)),
                 dict(hidden_size=28, attention_heads=3, intermediate_size=30, num_hidden_layers=3, num_global_layers=1,
                      image_size=23, patch_size=5, max_num_tiles=4, intermediate_layers_indices=[-1, 0, 0, 2],
                      norm_eps=1e-3)),
        "dtype": "float32", "seed": 11},
    # One tile, no global layer; cross-attention first, adjacent and last
    "mllama-one-tile": {
        **mllama(dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=40,
                      num_hidden_layers=5, cross_attention_layers=[0, 1, 4], hidden_act="gelu"),
                 dict(hidden_size=40, attention_heads=2, intermediate_size=24, num_hidden_layers=2, num_global_layers=0,
                      image_size=16, patch_size=4, max_num_tiles=1, intermediate_layers_indices=[1],
                      hidden_act="quick_gelu")),
        "dtype": "bfloat16", "seed": 12},
    # Eight tiles; the module tree's names, in shards; the aspect-ratio table larger than the processor needs
    "mllama-eight-tiles": {
        **mllama(dict(hidden_size=48, num_attention_heads=6, num_key_value_heads=3, intermediate_size=36,
                      num_hidden_layers=4, cross_attention_layers=[2, 3], rope_parameters=dict(rope_type="default", rope_theta=100.0)),
                 dict(hidden_size=24, attention_heads=4, intermediate_size=40, num_hidden_layers=2, num_global_layers=2,
                      image_size=12, patch_size=6, max_num_tiles=8, intermediate_layers_indices=[0, 1],
                      supported_aspect_ratios=ratios(8) + [[9, 1]], hidden_act="gelu_pytorch_tanh")),
        "dtype": "bfloat16", "seed": 13, "layout": "module-tree", "shards": 3},
    # fp16 weights; yarn in an mllama; a 4.x config
    "mllama-yarn": {
        **mllama(dict(hidden_size=24, num_attention_heads=2, num_key_value_heads=2, intermediate_size=32,
                      num_hidden_layers=3, cross_attention_layers=[1],
                      rope_parameters=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, original_max_position_embeddings=32)),
                 dict(hidden_size=16, attention_heads=2, intermediate_size=20, num_hidden_layers=2, num_global_layers=1,
                      image_size=20, patch_size=6, max_num_tiles=3, intermediate_layers_indices=[0])),
        "dtype": "float16", "seed": 14, "config": "4.x"},
    # head_dim of its own, tied head, yarn with its own numbers
    "llama-tied-yarn": {
        **llama(dict(hidden_size=40, num_attention_heads=4, num_key_value_heads=2, head_dim=18, intermediate_size=56,
                     num_hidden_layers=3, tie_word_embeddings=True, rms_norm_eps=1e-4,
                     rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=2.0, beta_fast=16, beta_slow=2,
                                          mscale=0.9, mscale_all_dim=0.7, original_max_position_embeddings=64))),
        "dtype": "bfloat16", "seed": 21},
    # Biases everywhere, linear rope, a 4.x config
    "llama-bias-linear": {
        **llama(dict(hidden_size=36, num_attention_heads=6, num_key_value_heads=2, intermediate_size=30,
                     num_hidden_layers=3, attention_bias=True, mlp_bias=True, hidden_act="gelu_new",
                     rope_parameters=dict(rope_type="linear", rope_theta=5000.0, factor=3.0))),
        "dtype": "float32", "seed": 22, "config": "4.x"},
    # Dynamic rope within its length, one K/V head, relu
    "llama-dynamic": {
        **llama(dict(hidden_size=30, num_attention_heads=5, num_key_value_heads=1, intermediate_size=64,
                     num_hidden_layers=2, hidden_act="relu",
                     rope_parameters=dict(rope_type="dynamic", rope_theta=300.0, factor=2.0))),
        "dtype": "float32", "seed": 23},
    "llama-llama3": {
        **llama(dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=4, intermediate_size=44,
                     num_hidden_layers=3,
                     rope_parameters=dict(rope_type="llama3", rope_theta=800.0, factor=4.0, low_freq_factor=1.0,
                                          high_freq_factor=3.0, original_max_position_embeddings=96))),
        "dtype": "float16", "seed": 24},
}


def _image(text):
    return {"type": "text", "text": text} if text else {"type": "image"}


def _chat(case_id, what, parts, images):
    return {"id": case_id, "kind": "chat", "what": what, "images": images,
            "messages": [{"role": "user", "content": [_image(part) for part in parts]}]}


def requests(name):
    """The cases of a model's golden, before make_golden.py fills them in."""
    chat_only = {"id": "text", "kind": "chat", "what": "no picture", "images": [],
                 "messages": [{"role": "system", "content": "the one"}, {"role": "user", "content": "what is in the ant?"}]}
    long_ids = {"id": "long", "kind": "ids", "what": "many positions", "images": [],
                "ids": [_IDS["<|begin_of_text|>"]] + [(7 * i * i + 3 * i) % 256 for i in range(70)]}
    if MODELS[name]["family"] == "llama":
        return [chat_only, {"id": "raw", "kind": "text", "what": "raw text", "images": [], "text": "the picture is on"},
                long_ids]
    tall, wide, square, small = "tall.png", "wide.png", "square.png", "small.png"
    return [
        _chat("one", "one picture, unseen rows before it", ["", "what is it?"], [square]),
        _chat("late", "text before the picture", ["in the", "", "on"], [wide]),
        _chat("two", "two pictures with text between", ["", "is", "", "at"], [tall, small]),
        _chat("run", "two adjacent pictures", ["the", "", "", "an"], [wide, tall]),
        chat_only,
        {"id": "raw", "kind": "text", "what": "BOS is put in after the leading mark", "images": [small],
         "text": "<|image|>the ant"},
        {"id": "ids", "kind": "ids", "what": "the mark is the last token but one", "images": [square],
         "ids": [_IDS["<|begin_of_text|>"], 65, 66, _IDS["<|image|>"], 67]},
    ]
