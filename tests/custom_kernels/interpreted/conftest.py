from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter


@pytest.fixture(autouse=True)
def bfloat16_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mends the interpreter's bfloat16, which it keeps as uint16 and often computes with as such.

    float32 is rounded to it to the nearest, ties to even, instead of being cut off; whatever is
    computed with bfloat16 is computed with the same numbers in float32, and rounded at the end.
    """
    builder = interpreter.InterpreterBuilder
    cast, dot = builder.cast_impl, builder.create_dot
    binary, unary, fused = builder.binary_op, builder.unary_op, builder.create_fma

    def is_bfloat16(handle: Any) -> bool:
        return bool(handle.dtype.scalar == tl.bfloat16)

    def cast_impl(self: Any, value: Any, to: Any) -> Any:
        if is_bfloat16(value):
            if to.scalar == tl.bfloat16:
                return value
            wide = (value.data.astype(np.uint32) << np.uint32(16)).view(np.float32)
            value = interpreter.TensorHandle(wide, tl.float32)
        if to.scalar != tl.bfloat16:
            return cast(self, value, to)
        bits = np.ascontiguousarray(value.data, np.float32).view(np.uint32)
        even = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        kept = np.where(np.isnan(bits.view(np.float32)), bits | np.uint32(1 << 22), even)
        return interpreter.TensorHandle((kept >> np.uint32(16)).astype(np.uint16), tl.bfloat16)

    def widened(self: Any, *values: Any) -> list[Any]:
        return [cast_impl(self, v, tl.float32) if is_bfloat16(v) else v for v in values]

    def rounded(self: Any, result: Any) -> Any:
        if result.data.dtype == np.bool_:  # a comparison
            return interpreter.TensorHandle(result.data, tl.int1)
        return cast_impl(self, result, tl.bfloat16)

    def binary_op(self: Any, left: Any, right: Any, op: Any) -> Any:
        result = binary(self, *widened(self, left, right), op)
        return rounded(self, result) if is_bfloat16(left) else result

    def unary_op(self: Any, value: Any, op: Any) -> Any:
        result = unary(self, *widened(self, value), op)
        return rounded(self, result) if is_bfloat16(value) else result

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        result = fused(self, *widened(self, x, y, z))
        return rounded(self, result) if is_bfloat16(z) else result

    def create_dot(self: Any, a: Any, b: Any, accumulator: Any, *options: Any) -> Any:
        a, b, wide = widened(self, a, b, accumulator)
        result = dot(self, a, b, wide, *options)
        return rounded(self, result) if is_bfloat16(accumulator) else result

    for mended in (cast_impl, binary_op, unary_op, create_fma, create_dot):
        monkeypatch.setattr(builder, mended.__name__, mended)

    reduce = interpreter.ReduceOps.apply

    def apply(self: Any, values: Any) -> Any:
        if not isinstance(values, tuple):
            return apply(self, (values,))[0]
        narrow = [value.dtype.scalar == tl.bfloat16 for value in values]
        wide = (v.to(tl.float32) if n else v for v, n in zip(values, narrow, strict=True))
        results = reduce(self, tuple(wide))
        return tuple(r.to(tl.bfloat16) if n else r for r, n in zip(results, narrow, strict=True))

    monkeypatch.setattr(interpreter.ReduceOps, "apply", apply)


@pytest.fixture
def as_exact() -> Callable[
    [Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor]], None
]:
    """Asserts that each of ours is as near to the truth as PyTorch's in the same dtype.

    The error, as a norm over all elements, is at most 1.5 times PyTorch's. Where PyTorch happens to
    be almost exact (one element, say), float32's last bit is allowed.
    """

    def check(
        ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], truth: Mapping[str, Tensor]
    ) -> None:
        assert ours.keys() == theirs.keys() == truth.keys()
        for name, exact in truth.items():
            our, their = ours[name], theirs[name]
            assert exact.dtype == torch.float64, name
            assert our.dtype == their.dtype, name
            assert our.shape == their.shape == exact.shape, name
            last_bit = torch.finfo(torch.float32).eps * exact.norm().item()
            error, allowed = ((t.double() - exact).norm().item() for t in (our, their))
            assert error <= max(1.5 * allowed, last_bit), f"{name}: {error} against {allowed}"

    return check
