from typing import Any

import numpy as np
import pytest
import triton.language as tl
from triton.runtime import interpreter


@pytest.fixture(autouse=True)
def bfloat16_rounds_to_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter cuts float32 off to bfloat16; GPUs round to the nearest, ties to even."""
    cast = interpreter.InterpreterBuilder.cast_impl

    def rounded(self: Any, value: Any, to: Any) -> Any:
        if value.dtype.scalar == tl.float32 and to.scalar == tl.bfloat16:
            bits = value.data.view(np.uint32)
            even = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            value = interpreter.TensorHandle(even.view(np.float32), value.dtype)
        return cast(self, value, to)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "cast_impl", rounded)
