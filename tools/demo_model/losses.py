"""What training minimises."""

import torch
import torch.nn.functional as F

import packing
import scenes
import vocabulary as v
from network import Config, Network

# What every patch is asked, from the projected vision state: sizes of the six auxiliary classifiers.
AUXILIARY = [len(v.CLASS_NAMES), len(v.COLOURS), 9, scenes.SIZES, 5, 5]
AUXILIARY_WEIGHTS = [1.0, 0.5, 0.5, 0.4, 0.5, 3.0]
POINTING_LAYERS = (3, 5)


def auxiliary_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    return {"auxiliary.weight": (sum(AUXILIARY), config.width), "auxiliary.bias": (sum(AUXILIARY),)}


def auxiliary_loss(p: dict, states: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, float]:
    """states [B, T, 65, D], targets [B, T * 64, 6] -> loss, share of object patches whose class is right."""
    patches = states[:, :, 1:].flatten(0, 2)
    targets = targets.flatten(0, 1)
    real = (targets[:, 0] >= 0).nonzero()[:, 0]
    shown = real[targets[real, 0] > 0]
    empty = real[targets[real, 0] == 0][::3]  # a third of the background is enough
    chosen = torch.cat((shown, empty))
    logits = F.linear(patches[chosen], p["auxiliary.weight"], p["auxiliary.bias"]).split(AUXILIARY, -1)
    wanted = targets[chosen]
    weight = torch.cat(
        (torch.full((len(shown),), 1 / max(len(shown), 1)), torch.full((len(empty),), 0.3 / max(len(empty), 1)))
    )
    loss = (F.cross_entropy(logits[0], wanted[:, 0], reduction="none") * weight).sum()
    right = (logits[0][: len(shown)].argmax(-1) == wanted[: len(shown), 0]).float().mean().item() if len(shown) else 0.0
    for k in range(1, 6):
        known = (wanted[:, k] >= 0).nonzero()[:, 0]
        if len(known):
            loss = loss + AUXILIARY_WEIGHTS[k] * F.cross_entropy(logits[k][known], wanted[known, k])
    return loss, right


def pointing_loss(maps: dict[int, torch.Tensor], batch: packing.Batch) -> torch.Tensor:
    """-log of the cross-attention mass inside the boxes of what the next token says."""
    length = batch.ids.shape[1]
    total = torch.zeros(())
    for layer in POINTING_LAYERS:
        rows = (
            maps[layer].transpose(1, 2)[batch.aimed // length, batch.aimed % length].mean(1)
        )  # [A, T * 65], mean over heads
        total = total - ((rows * batch.aims).sum(-1) + 1e-6).log().mean()
    return total


def losses(
    network: Network, p: dict, batch: packing.Batch
) -> tuple[torch.Tensor, dict[str, float], torch.Tensor | None]:
    """Total loss, its parts, and per answer whether greedy decoding gives it whole (teacher forcing decides that exactly)."""
    states = network.vision(p, batch.pixels, batch.ratio_ids, batch.tile_counts)
    auxiliary, patches_right = auxiliary_loss(p, states, batch.patch_targets)
    parts = {"aux": auxiliary.item(), "patches": patches_right}
    if batch.ids is None:
        return auxiliary, parts, None
    logits, maps = network.text(
        p, batch.ids, batch.positions, batch.mask, batch.sees, states, batch.tile_counts, batch.rows
    )
    answer = F.cross_entropy(logits, batch.targets)
    pointing = pointing_loss(maps, batch) if len(batch.aimed) else torch.zeros(())
    parts |= {"answer": answer.item(), "point": pointing.item()}
    wrong = torch.zeros(len(batch.answer_types)).index_add_(
        0, batch.answers, (logits.argmax(-1) != batch.targets).float()
    )
    return answer + 0.3 * auxiliary + 0.2 * pointing / len(POINTING_LAYERS), parts, wrong == 0
