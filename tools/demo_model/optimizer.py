"""Muon for the layers' matrices, AdamW for the rest, on flat buffers that the training processes share.

Muon (Jordan and others, 2024): momentum whose singular values are set to about one by a Newton-Schulz iteration. The work is a list of
independent items, so that processes take one after another; the result does not depend on who takes what.
"""

import torch

from network import initialise

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
MOMENTUM = 0.95
BETAS = (0.9, 0.97)
EPSILON = 1e-8


def orthogonalise(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """g [n, r, c] -> nearly its nearest semi-orthogonal matrices."""
    a, b, c = NEWTON_SCHULZ
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.transpose(1, 2) if tall else x


class Store:
    """Parameters, optimiser state and gradient slots: flat float32 tensors in shared memory, cut up by `shapes`."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], slots: int, seed: int):
        self.spans: dict[str, tuple[int, int, tuple[int, ...]]] = {}
        at = 0
        for name, shape in shapes.items():
            size = 1
            for d in shape:
                size *= d
            self.spans[name] = (at, size, shape)
            at += (size + 15) // 16 * 16  # 64-byte lines
        self.values, self.first, self.second = (torch.zeros(at).share_memory_() for _ in range(3))
        self.slots = torch.zeros(slots, at).share_memory_()
        generator = torch.Generator().manual_seed(seed)
        for name in shapes:
            initialise(name, self.view(self.values, name), generator)

    def view(self, flat: torch.Tensor, name: str) -> torch.Tensor:
        at, size, shape = self.spans[name]
        return flat[at : at + size].view(shape)

    def leaves(self, slot: int) -> dict[str, torch.Tensor]:
        """The parameters, their gradients written into gradient slot `slot`, which is zeroed."""
        self.slots[slot].zero_()
        result = {}
        for name in self.spans:
            leaf = self.view(self.values, name).detach().requires_grad_()
            leaf.grad = self.view(self.slots[slot], name)
            result[name] = leaf
        return result


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and ("proj." in name or ".fc" in name)


def work_items(store: Store, trained: list[str]) -> list[list[str]]:
    """Names updated together: matrices of one shape, at most four at once, then everything else in chunks."""
    by_shape: dict[tuple[int, ...], list[str]] = {}
    rest = []
    for name in trained:
        shape = store.spans[name][2]
        if is_matrix(name, shape):
            by_shape.setdefault((*shape, "vision" in name), []).append(name)
        else:
            rest.append(name)
    items = [names[i : i + 4] for names in by_shape.values() for i in range(0, len(names), 4)]
    rest.sort(key=lambda n: -store.spans[n][1])
    big = [[n] for n in rest if store.spans[n][1] > 100_000]
    return items + big + [[n for n in rest if store.spans[n][1] <= 100_000]]


def update(store: Store, names: list[str], step: int, rates: dict[str, float], weights: list[float]) -> None:
    """One step for `names`. rates: muon, adam and the factor for vision; weights: share of each gradient slot; step from 1."""

    def gradient(name: str) -> torch.Tensor:
        views = [store.view(store.slots[s], name) for s in range(len(weights))]
        total = views[0] * weights[0]
        for other, weight in zip(views[1:], weights[1:]):
            total.add_(other, alpha=weight)
        return total

    matrix = is_matrix(names[0], store.spans[names[0]][2])
    scale = rates["vision"] if names[0].startswith("vision_model") else 1.0
    if matrix:
        momenta = []
        for name in names:
            g, m = gradient(name), store.view(store.first, name)
            m.lerp_(g, 1 - MOMENTUM)
            momenta.append(g.lerp_(m, MOMENTUM))
        directions = orthogonalise(torch.stack(momenta))
        rows, columns = directions.shape[1:]
        rate = rates["muon"] * scale * max(1.0, rows / columns) ** 0.5
        for name, direction in zip(names, directions):
            value = store.view(store.values, name)
            value.mul_(1 - rates["decay"] * rates["muon"] * scale).sub_(direction, alpha=rate)
        return
    for name in names:
        scale = rates["vision"] if name.startswith("vision_model") else 1.0
        g, m, v = gradient(name), store.view(store.first, name), store.view(store.second, name)
        m.lerp_(g, 1 - BETAS[0])
        v.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
        unbiased = (v / (1 - BETAS[1] ** step)).sqrt_().add_(EPSILON)
        store.view(store.values, name).addcdiv_(m, unbiased, value=-rates["adam"] * scale / (1 - BETAS[0] ** step))
