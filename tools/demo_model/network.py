"""The architecture of Hugging Face's MllamaForConditionalGeneration, written for fast training on CPU.

Parameters are a dictionary under the names of the safetensors file, views of one flat buffer. Several questions about one picture are
packed into one row: the mask says which tokens see which. Text rows that see no picture get nothing from the cross-attention layers
(`unseen_rows = zero`, as Meta's code has it). check_network.py compares it with transformers.
Shapes: B pictures, T tiles, N tokens of a tile (class + patches, padded to a multiple of 8), L text tokens, D width.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class Config:
    vocab: int = 1024
    tile: int = 96
    patch: int = 12
    max_tiles: int = 4
    vision_width: int = 192
    vision_heads: int = 6
    vision_mlp: int = 768
    local_layers: int = 4
    global_layers: int = 2
    intermediate: tuple[int, ...] = (1, 3)
    width: int = 256
    layers: int = 7
    cross: tuple[int, ...] = (1, 3, 5)
    heads: int = 8
    kv_heads: int = 2
    mlp: int = 640
    rope_theta: float = 10000.0
    rope_factor: float = 4.0
    rope_low: float = 1.0
    rope_high: float = 4.0
    rope_original: int = 512
    eps: float = 1e-5
    # (tiles high, tiles wide) in the order of aspect ratio ids 1, 2, ...
    ratios: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1))

    @property
    def patches(self) -> int:
        return (self.tile // self.patch) ** 2

    @property
    def vision_out(self) -> int:
        return self.vision_width * (1 + len(self.intermediate))


def parameter_shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of the file and its shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    w, tokens, ids = c.vision_width, c.patches + 1, len(c.ratios) + 1
    v = "vision_model."
    shapes[v + "class_embedding"] = (w,)
    shapes[v + "patch_embedding.weight"] = (w, 3, c.patch, c.patch)
    shapes[v + "gated_positional_embedding.gate"] = (1,)
    shapes[v + "gated_positional_embedding.embedding"] = (tokens, w)
    shapes[v + "gated_positional_embedding.tile_embedding.weight"] = (ids, c.max_tiles * tokens * w)
    for side in ("pre", "post"):
        shapes[f"{v}{side}_tile_positional_embedding.gate"] = (1,)
        shapes[f"{v}{side}_tile_positional_embedding.embedding.weight"] = (ids, c.max_tiles * w)
        shapes[f"{v}layernorm_{side}.weight"] = shapes[f"{v}layernorm_{side}.bias"] = (w,)
    for tower, count in (("transformer", c.local_layers), ("global_transformer", c.global_layers)):
        for i in range(count):
            p = f"{v}{tower}.layers.{i}."
            for name in "qkvo":
                shapes[f"{p}self_attn.{name}_proj.weight"] = (w, w)
            shapes[p + "mlp.fc1.weight"], shapes[p + "mlp.fc1.bias"] = (c.vision_mlp, w), (c.vision_mlp,)
            shapes[p + "mlp.fc2.weight"], shapes[p + "mlp.fc2.bias"] = (w, c.vision_mlp), (w,)
            for norm in ("input_layernorm", "post_attention_layernorm"):
                shapes[f"{p}{norm}.weight"] = shapes[f"{p}{norm}.bias"] = (w,)
            if tower == "global_transformer":
                shapes[p + "gate_attn"] = shapes[p + "gate_ffn"] = (1,)
    shapes["multi_modal_projector.weight"] = (c.width, c.vision_out)
    shapes["multi_modal_projector.bias"] = (c.width,)
    t, head = "language_model.model.", c.width // c.heads
    shapes[t + "embed_tokens.weight"] = (c.vocab + 8, c.width)
    for i in range(c.layers):
        p = f"{t}layers.{i}."
        attention = p + ("cross_attn." if i in c.cross else "self_attn.")
        shapes[attention + "q_proj.weight"] = (c.heads * head, c.width)
        shapes[attention + "k_proj.weight"] = shapes[attention + "v_proj.weight"] = (c.kv_heads * head, c.width)
        shapes[attention + "o_proj.weight"] = (c.width, c.heads * head)
        if i in c.cross:
            shapes[attention + "q_norm.weight"] = shapes[attention + "k_norm.weight"] = (head,)
            shapes[p + "cross_attn_attn_gate"] = shapes[p + "cross_attn_mlp_gate"] = (1,)
        shapes[p + "mlp.gate_proj.weight"] = shapes[p + "mlp.up_proj.weight"] = (c.mlp, c.width)
        shapes[p + "mlp.down_proj.weight"] = (c.width, c.mlp)
        shapes[p + "input_layernorm.weight"] = shapes[p + "post_attention_layernorm.weight"] = (c.width,)
    shapes[t + "norm.weight"] = (c.width,)
    shapes["language_model.lm_head.weight"] = (c.vocab, c.width)
    return shapes


def initialise(name: str, tensor: torch.Tensor, generator: torch.Generator) -> None:
    """Fills one parameter in place."""
    if name.endswith("bias") or name.endswith("tile_positional_embedding.embedding.weight"):
        tensor.zero_()
    elif "norm" in name:
        tensor.fill_(1.0)
    elif "gate" in name and tensor.numel() == 1:
        tensor.fill_(0.5 if "positional" in name else 1.0)
    elif "tile_embedding" in name:
        tensor.normal_(0, 0.01, generator=generator)
    elif tensor.dim() == 1 or "embed" in name or "lm_head" in name or "positional" in name:
        tensor.normal_(0, 0.02 if "patch" not in name else 0.05, generator=generator)
    else:
        tensor.normal_(0, 1 / math.sqrt(tensor.shape[1]), generator=generator)
        if "o_proj" in name or "fc2" in name or "down_proj" in name:
            tensor.mul_(0.4)


def heads_of(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, L, heads * h] -> [B, heads, L, h]"""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


class Network:
    """Functions of (parameters, inputs); holds no state but constants."""

    def __init__(self, config: Config):
        self.c = c = config
        head = c.width // c.heads
        frequency = 1.0 / c.rope_theta ** (torch.arange(0, head, 2, dtype=torch.float64) / head)
        wavelength = 2 * math.pi / frequency
        smooth = (c.rope_original / wavelength - c.rope_low) / (c.rope_high - c.rope_low)
        between = (1 - smooth) * frequency / c.rope_factor + smooth * frequency
        scaled = torch.where(wavelength > c.rope_original / c.rope_low, frequency / c.rope_factor, between)
        scaled = torch.where(wavelength < c.rope_original / c.rope_high, frequency, scaled)
        angles = torch.outer(torch.arange(2048, dtype=torch.float64), scaled).float()
        self.cos, self.sin = torch.cat((angles, angles), 1).cos(), torch.cat((angles, angles), 1).sin()

    # --- vision -------------------------------------------------------------------------------------------------------------------

    def vision_layer(self, p: dict, name: str, x: torch.Tensor, mask: torch.Tensor | None, gated: bool) -> torch.Tensor:
        """x [b, n, D]; mask added to the scores, or None."""
        c, w = self.c, (x.shape[-1],)
        h = F.layer_norm(x, w, p[name + "input_layernorm.weight"], p[name + "input_layernorm.bias"], c.eps)
        q, k, v = (heads_of(h @ p[f"{name}self_attn.{n}_proj.weight"].t(), c.vision_heads) for n in "qkv")
        scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(2, 3)
        if mask is not None:
            scores = scores + mask
        h = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(x.shape) @ p[name + "self_attn.o_proj.weight"].t()
        x = x + (h * p[name + "gate_attn"].tanh() if gated else h)
        h = F.layer_norm(
            x, w, p[name + "post_attention_layernorm.weight"], p[name + "post_attention_layernorm.bias"], c.eps
        )
        h = F.gelu(F.linear(h, p[name + "mlp.fc1.weight"], p[name + "mlp.fc1.bias"]))
        h = F.linear(h, p[name + "mlp.fc2.weight"], p[name + "mlp.fc2.bias"])
        return x + (h * p[name + "gate_ffn"].tanh() if gated else h)

    def vision(self, p: dict, pixels: torch.Tensor, ratio_ids: torch.Tensor, tile_counts: torch.Tensor) -> torch.Tensor:
        """pixels [B, T, 3, tile, tile], ratio_ids [B], tile_counts [B] (real tiles) -> cross-attention states [B, T, patches+1, width]."""
        c, n = self.c, "vision_model."
        batch, tiles = pixels.shape[:2]
        side, w = c.tile // c.patch, c.vision_width
        patches = (
            pixels.view(batch * tiles, 3, side, c.patch, side, c.patch)
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(batch * tiles, side * side, -1)
        )
        x = patches @ p[n + "patch_embedding.weight"].view(w, -1).t()
        pre = F.embedding(ratio_ids, p[n + "pre_tile_positional_embedding.embedding.weight"]).view(
            batch, c.max_tiles, 1, w
        )[:, :tiles]
        x = x.view(batch, tiles, -1, w) + pre * p[n + "pre_tile_positional_embedding.gate"].tanh()
        x = torch.cat((p[n + "class_embedding"].expand(batch, tiles, 1, w), x), 2)
        gate = p[n + "gated_positional_embedding.gate"].tanh()
        by_tile = F.embedding(ratio_ids, p[n + "gated_positional_embedding.tile_embedding.weight"]).view(
            batch, c.max_tiles, -1, w
        )[:, :tiles]
        x = x + (1 - gate) * p[n + "gated_positional_embedding.embedding"] + gate * by_tile
        x = F.layer_norm(x, (w,), p[n + "layernorm_pre.weight"], p[n + "layernorm_pre.bias"], 1e-5)
        tokens, pad = x.shape[2], -x.shape[2] % 8
        x = F.pad(x, (0, 0, 0, pad))
        # Padding tokens and tiles do not see one another; everything else sees everything. Both encoders attend over all tiles.
        padding = torch.zeros(batch, tiles, tokens + pad)
        padding[:, :, tokens:] = 1
        padding.masked_fill_(torch.arange(tiles)[None, :, None] >= tile_counts[:, None, None], 1.0)
        padding = padding.view(batch, 1, -1)
        mask = (padding.transpose(1, 2) @ padding * -1e9).unsqueeze(1)
        x = x.view(batch, -1, w)
        kept = []
        for i in range(c.local_layers):
            x = self.vision_layer(p, f"{n}transformer.layers.{i}.", x, mask, False)
            if i in c.intermediate:
                kept.append(x)
        x = F.layer_norm(x, (w,), p[n + "layernorm_post.weight"], p[n + "layernorm_post.bias"], 1e-5)
        post = F.embedding(ratio_ids, p[n + "post_tile_positional_embedding.embedding.weight"]).view(
            batch, c.max_tiles, 1, w
        )[:, :tiles]
        x = (x.view(batch, tiles, -1, w) + post * p[n + "post_tile_positional_embedding.gate"].tanh()).view(
            batch, -1, w
        )
        for i in range(c.global_layers):
            x = self.vision_layer(p, f"{n}global_transformer.layers.{i}.", x, mask, True)
        x = torch.cat((x, torch.stack(kept, -1).flatten(2)), -1).view(batch, tiles, tokens + pad, -1)[:, :, :tokens]
        return F.linear(x, p["multi_modal_projector.weight"], p["multi_modal_projector.bias"])

    # --- text ---------------------------------------------------------------------------------------------------------------------

    def rotate(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """x [B, heads, L, h], positions [B, L]."""
        cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat((-b, a), -1) * sin

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """q [B, heads, L, h], k, v [B, kv_heads, M, h], mask [B, 1, L or 1, M] added -> outputs [B, L, heads*h], weights [B, heads, L, M]."""
        batch, heads, length, head = q.shape
        group = heads // k.shape[1]
        q = q.reshape(batch, k.shape[1], group * length, head) * (1 / math.sqrt(head))
        scores = (q @ k.transpose(2, 3)).view(batch, heads, length, -1) + mask
        weights = torch.softmax(scores, -1)
        out = weights.view(batch, k.shape[1], group * length, -1) @ v
        return out.view(batch, heads, length, head).transpose(1, 2).reshape(batch, length, -1), weights

    @staticmethod
    def only(kept: torch.Tensor, x: torch.Tensor, h: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor):
        """The rows that `kept` names, per batch item, padded to the longest; and `kept` for the result."""
        batch, length = x.shape[:2]
        item, row = kept // length, kept % length
        counts = torch.bincount(item, minlength=batch)
        place = torch.arange(len(kept)) - (counts.cumsum(0) - counts)[item]  # kept is sorted by item
        rows = torch.zeros(batch, int(counts.max()), dtype=torch.int64)
        rows[item, place] = row
        pick = lambda t: t.gather(1, rows.unsqueeze(-1).expand(-1, -1, t.shape[-1]))  # noqa: E731
        mask = pick(mask[:, 0].expand(batch, -1, -1)).unsqueeze(1)
        return pick(x), pick(h), positions.gather(1, rows), mask, item * rows.shape[1] + place

    def mlp(self, p: dict, name: str, h: torch.Tensor) -> torch.Tensor:
        gate = F.silu(h @ p[name + "mlp.gate_proj.weight"].t())
        return (gate * (h @ p[name + "mlp.up_proj.weight"].t())) @ p[name + "mlp.down_proj.weight"].t()

    def cross_kv(self, p: dict, name: str, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """states [B, M, D] -> keys, values [B, kv_heads, M, h]"""
        k = heads_of(states @ p[name + "cross_attn.k_proj.weight"].t(), self.c.kv_heads)
        v = heads_of(states @ p[name + "cross_attn.v_proj.weight"].t(), self.c.kv_heads)
        return rms_norm(k, p[name + "cross_attn.k_norm.weight"], self.c.eps), v

    def text(
        self,
        p: dict,
        ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        sees: torch.Tensor,
        states: torch.Tensor,
        tile_counts: torch.Tensor,
        kept: torch.Tensor,
        cache: list | None = None,
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Logits of the rows that `kept` names, and the cross-attention weights of layers 3 and 5.

        ids, positions [B, L]; mask [B, 1, L, M] added; sees [B, L] 1.0 where the token sees the picture; states [B, T, patches+1, D];
        kept int64 [K]: rows of the flattened [B*L]. cache: per layer (k, v) of earlier tokens, extended in place (generation).
        """
        c, t = self.c, "language_model.model."
        x = F.embedding(ids, p[t + "embed_tokens.weight"])
        unseen_tiles = torch.arange(states.shape[1])[None, :, None] >= tile_counts[:, None, None]
        tile_mask = torch.zeros(states.shape[:3]).masked_fill_(unseen_tiles, -1e9).view(states.shape[0], 1, 1, -1)
        flat_states = states.flatten(1, 2)
        sees = sees.unsqueeze(-1)
        maps = {}
        for i in range(c.layers):
            n = f"{t}layers.{i}."
            h = rms_norm(x, p[n + "input_layernorm.weight"], c.eps)
            if i in c.cross:
                q = rms_norm(
                    heads_of(h @ p[n + "cross_attn.q_proj.weight"].t(), c.heads),
                    p[n + "cross_attn.q_norm.weight"],
                    c.eps,
                )
                h, weights = self.attend(q, *self.cross_kv(p, n, flat_states), tile_mask)
                maps[i] = weights
                x = x + h @ p[n + "cross_attn.o_proj.weight"].t() * (p[n + "cross_attn_attn_gate"].tanh() * sees)
                h = self.mlp(p, n, rms_norm(x, p[n + "post_attention_layernorm.weight"], c.eps))
                x = x + h * (p[n + "cross_attn_mlp_gate"].tanh() * sees)
                continue
            k = self.rotate(heads_of(h @ p[n + "self_attn.k_proj.weight"].t(), c.kv_heads), positions)
            v = heads_of(h @ p[n + "self_attn.v_proj.weight"].t(), c.kv_heads)
            if cache is not None:
                if cache[i] is not None:
                    k, v = torch.cat((cache[i][0], k), 2), torch.cat((cache[i][1], v), 2)
                cache[i] = (k, v)
            if i == c.layers - 1:  # nobody reads the other rows of the last layer
                x, h, positions, mask, kept = self.only(kept, x, h, positions, mask)
            q = self.rotate(heads_of(h @ p[n + "self_attn.q_proj.weight"].t(), c.heads), positions)
            h, _ = self.attend(q, k, v, mask)
            x = x + h @ p[n + "self_attn.o_proj.weight"].t()
            x = x + self.mlp(p, n, rms_norm(x, p[n + "post_attention_layernorm.weight"], c.eps))
        x = rms_norm(x.flatten(0, 1)[kept], p[t + "norm.weight"], c.eps)
        return x @ p["language_model.lm_head.weight"].t(), maps
