"""What each kernel launches, for the ahead-of-time harness: ops called on CPU tensors.

A function takes the dtype and calls the ops of one kernel, forward and backward, for shapes that
matter; the harness records the launches instead of running them.
"""

from collections.abc import Callable

import torch

from magicoder.custom_kernels import adamw, attention, glu, linear_cross_entropy, rms_norm, rope


def rms_norm_launches(dtype: torch.dtype) -> None:
    for hidden in (128, 576, 2048, 4096, 8192):
        x, weight = torch.ones(64, hidden, dtype=dtype), torch.ones(hidden, dtype=dtype)
        rms_norm.forward(x, weight, 1e-5)
        rms_norm.add_forward(x, x, weight, 1e-5)
        rms_norm.backward(x, x, weight, 1e-5)
        rms_norm.backward(x, x, weight, 1e-5, 0.0, x)
    rms_norm.forward(x, weight, 1e-6, "after", 1.0)


def rope_launches(dtype: torch.dtype) -> None:
    for heads, head_dim in ((12, 64), (40, 128), (4, 80)):
        packed = torch.ones(1, 64, heads, head_dim, dtype=dtype).transpose(1, 2)
        q, k = packed.split((heads * 3 // 4, heads // 4), 1)
        angles = torch.ones(1, 64, head_dim, dtype=dtype)
        rope.forward(q, k, angles, angles)
    rope.forward(q, k, angles, angles, True)
    rope.forward_inplace(q, k, angles, angles)


def attention_launches(dtype: torch.dtype) -> None:
    cu_seqlens, lengths = torch.tensor([0, 100, 256], dtype=torch.int32), [100, 156]
    for head_dim, window, softcap in ((64, None, None), (128, None, None), (128, 64, 50.0)):
        q = torch.ones(12, 256, head_dim, dtype=dtype).transpose(0, 1)
        k = torch.ones(4, 256, head_dim, dtype=dtype).transpose(0, 1)
        how = head_dim**-0.5, window, softcap
        out, lse = attention.forward(q, k, k, cu_seqlens, lengths, *how)
        attention.backward(out, q, k, k, out, lse, cu_seqlens, *how)


def glu_launches(dtype: torch.dtype) -> None:
    fused = torch.ones(64, 2 * 1536, dtype=dtype)  # the columns of a program end inside a row
    whole, weight = torch.ones(64, 8192, dtype=dtype), torch.ones(128, 8192, dtype=dtype)
    for activation in ("silu", "gelu", "gelu_tanh"):
        gate, up = fused.chunk(2, -1)
        glu.forward(gate, up, activation)
        glu.backward(gate, gate, up, activation)
        glu.linear_forward(whole, whole, weight, None, activation)
        glu.linear_backward(whole[:, :128], whole, whole, weight, activation, True)


def adamw_launches(dtype: torch.dtype) -> None:
    if dtype not in adamw.DTYPES:
        return
    weights = [torch.ones(64, 576, dtype=dtype), torch.ones(576, dtype=dtype)]
    codes = [torch.zeros(64, 576, dtype=torch.int8), torch.zeros(576)]
    codes_sq = [torch.zeros(64, 576, dtype=torch.uint8), torch.zeros(576)]
    scales = [torch.zeros(3, 144), torch.zeros(3, 0)]
    rates = [1e-3] * 2, [1.5] * 2, [2**62 + 1] * 2
    adamw.update(weights, weights, codes, codes_sq, scales, *rates, 1e-5, 0.1, 0.001, 1e-8)


def linear_cross_entropy_launches(dtype: torch.dtype) -> None:
    targets, losses = torch.zeros(2, dtype=torch.int64), torch.zeros(2)
    for classes in (1000, 49153, 128256):
        logits = torch.ones(2, -(-classes // 64) * 64, dtype=dtype)[:, :classes]
        for smoothing, softcap in ((0.0, None), (0.1, 30.0)):
            terms = linear_cross_entropy.Terms(-100, smoothing, 1e-4, softcap, 0.5, 1.0)
            for gradient in (False, True):
                linear_cross_entropy.rows_by_kernel(logits, targets, losses, terms, gradient)


LAUNCHES: dict[str, Callable[[torch.dtype], None]] = {
    "adamw": adamw_launches,
    "attention": attention_launches,
    "glu": glu_launches,
    "linear_cross_entropy": linear_cross_entropy_launches,
    "rms_norm": rms_norm_launches,
    "rope": rope_launches,
}
