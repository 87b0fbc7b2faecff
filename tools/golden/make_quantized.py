#!/usr/bin/env python3
"""Matrices as the libraries that quantise them write them, and what their own code reads back.

  PYTHONPATH=PACKAGES make_quantized.py OUT.safetensors

PACKAGES holds compressed-tensors, autoawq and auto-gptq, installed with `pip install --no-deps --target`, beside the
reference environment (tools/reference_venv.sh). Tensors of a case are named "CASE.TENSOR"; "CASE.expected" is fp32
[N, K] as the library dequantises, from fp32 copies of the scales, so that only the rule counts and not its rounding.
"""
import importlib.util
import os
import sys

import torch
from safetensors.torch import save_file


def library_file(package, path):
    """A module of an installed package without the package's own imports (kernels for GPUs)."""
    root = importlib.util.find_spec(package).submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], os.path.join(root, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scales_and_zeros(weight, group, bits, symmetric):
    """[N, G] each; zeros among the codes 0..2^bits - 1."""
    top = 2 ** bits - 1
    groups = weight.reshape(weight.shape[0], -1, group)
    if symmetric:
        scale = groups.abs().amax(-1) / (top // 2)
        return scale, torch.full_like(scale, 2 ** (bits - 1))
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    scale = (high - low) / top
    return scale, (-low / scale).round().clamp(0, top)


def compressed_tensors_cases(out):
    from compressed_tensors.compressors import NaiveQuantizationCompressor, PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    n = 24
    for name, compressor, bits, group, symmetric in (
            ("ct4-sym-g32", PackedQuantizationCompressor, 4, 32, True),
            ("ct4-asym-g128", PackedQuantizationCompressor, 4, 128, False),
            ("ct4-sym-channel", PackedQuantizationCompressor, 4, 0, True),
            ("ct8-pack-g64", PackedQuantizationCompressor, 8, 64, True),
            ("ct8-int-channel", NaiveQuantizationCompressor, 8, 0, True),
            ("ct8-int-asym", NaiveQuantizationCompressor, 8, 0, False)):
        k = max(2 * group, 96)
        weight = torch.randn(n, k) * 0.1 + (0 if symmetric else 0.03)
        scale, zero = scales_and_zeros(weight, group or k, bits, symmetric)
        scale = scale.bfloat16()
        args = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, group_size=group or None,
                                strategy="group" if group else "channel")
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        state = {"weight": weight, "weight_scale": scale.float(),
                 "weight_zero_point": (zero - 2 ** (bits - 1)).to(torch.int8)}
        stored = compressor.compress(state, scheme)
        out[name + ".expected"] = compressor.decompress(stored, scheme)["weight"].float()
        stored["weight_scale"] = scale
        out.update({f"{name}.{key}": value for key, value in stored.items()})


def awq_cases(out):
    gemm = library_file("awq", "utils/packing_utils.py")
    n, k, group = 32, 128, 64
    weight = torch.randn(n, k) * 0.1
    scale, zero = scales_and_zeros(weight, group, 4, False)
    scale = scale.half()
    spread = lambda x: x.float().repeat_interleave(group, 1)  # noqa: E731
    codes = (weight / spread(scale) + spread(zero)).round().clamp(0, 15).int().t().contiguous()
    zeros = zero.int().t().contiguous()
    pack = lambda rows: sum(rows[:, column::8] << 4 * i  # noqa: E731 - the order of WQLinear_GEMM.from_linear
                            for i, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7))).int()
    parts = {"qweight": pack(codes), "qzeros": pack(zeros), "scales": scale.t().contiguous()}
    read = gemm.dequantize_gemm(parts["qweight"], parts["qzeros"], parts["scales"].float(), 4, group)
    out.update({"awq-g64." + key: value for key, value in parts.items()})
    out["awq-g64.expected"] = read.t().contiguous().float()


def gptq_cases(out):
    linear = library_file("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py")
    n, k, group = 32, 128, 64
    for name, symmetric, ordered in (("gptq-sym-g64", True, False), ("gptq-asym-g64", False, False),
                                     ("gptq-order-g64", False, True)):
        weight = torch.randn(n, k) * 0.1
        order = torch.arange(k) // group
        if ordered:
            order = order[torch.randperm(k)]
        scale, zero = torch.empty(n, k // group), torch.empty(n, k // group)
        for g in range(k // group):
            s, z = scales_and_zeros(weight[:, order == g], group, 4, symmetric)
            scale[:, g], zero[:, g] = s[:, 0], z[:, 0].clamp(min=1)
        packed = linear.QuantLinear(4, group, k, n, False, kernel_switch_threshold=0)
        module = torch.nn.Linear(k, n, bias=False)
        module.weight.data.copy_(weight)
        packed.pack(module, scale.half(), zero, order.int())
        out.update({f"{name}.{key}": getattr(packed, key).clone() for key in ("qweight", "qzeros", "scales", "g_idx")})
        packed.scales = packed.scales.float()
        packed.autogptq_cuda_available = False
        with torch.no_grad():
            out[name + ".expected"] = packed(torch.eye(k)).t().contiguous().float()


def main():
    torch.manual_seed(5)
    out = {}
    compressed_tensors_cases(out)
    awq_cases(out)
    gptq_cases(out)
    save_file({key: value.contiguous() for key, value in out.items()}, sys.argv[1], metadata={"format": "pt"})
    os.chmod(sys.argv[1], 0o644)


if __name__ == "__main__":
    main()
