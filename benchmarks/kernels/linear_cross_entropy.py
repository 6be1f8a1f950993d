"""The loss: -log softmax(hidden @ weight.T)[target], summed over the rows that are trained on."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks import documents
from benchmarks.kernels.harness import OURS, PYTORCH, Inputs, Kernel, Shape, Work, compiled, grid
from magicoder.custom_kernels import linear_cross_entropy

IGNORED = -100
Loss = Callable[[Tensor, Tensor], Tensor]


def inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> Inputs:
    """Weights as large as a trained model's, so that the softmax is neither flat nor a spike.

    rows, targets: the supervised rows, on the host, where the collator knows them; labels: the
    same for all rows on the device, for peers that look for the supervised rows themselves.
    """
    hidden = torch.randn(shape.tokens, shape.hidden, device=device).to(dtype)
    weight = torch.randn(shape.vocabulary, shape.hidden, device=device)
    weight = (2 * weight / shape.hidden**0.5).to(dtype)
    lengths = documents.fill(shape.tokens, shape.longest)
    rows = torch.tensor(documents.supervised(lengths), dtype=torch.int64)
    targets = torch.randint(shape.vocabulary, rows.shape)
    labels = torch.full((shape.tokens,), IGNORED)
    labels[rows] = targets
    return Inputs((hidden, weight), {"rows": rows, "targets": targets, "labels": labels.to(device)})


def work(shape: Shape, inputs: Inputs) -> tuple[Work, Work]:
    """Three products over the supervised rows, the first in the forward.

    Bytes: those rows and the weight in; and both gradients out, of all rows.
    """
    hidden, weight = inputs.leaves
    rows = len(inputs.rest["rows"])
    product = 2 * rows * weight.numel()
    read = rows * hidden[0].nbytes + weight.nbytes
    return Work(read, product), Work(read + hidden.nbytes + weight.nbytes, 3 * product)


def eager(inputs: Inputs) -> Loss:
    """As transformers does it: every row's logits, in float32."""
    labels = inputs.rest["labels"]
    return lambda hidden, weight: F.cross_entropy(
        (hidden @ weight.T).float(), labels, ignore_index=IGNORED, reduction="sum"
    )


def pytorch(inputs: Inputs) -> Loss:
    """The supervised rows alone."""
    rows, targets = (inputs.rest[name].to(inputs.leaves[0].device) for name in ("rows", "targets"))
    return lambda hidden, weight: F.cross_entropy(
        (hidden[rows] @ weight.T).float(), targets, reduction="sum"
    )


def truth(inputs: Inputs) -> Loss:
    rows, targets = (inputs.rest[name].to(inputs.leaves[0].device) for name in ("rows", "targets"))

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        logits = hidden[rows] @ weight.T
        return (logits.logsumexp(-1) - logits.gather(-1, targets[:, None])[:, 0]).sum()

    return loss


def ours(inputs: Inputs) -> Loss:
    rows, targets = inputs.rest["rows"], inputs.rest["targets"]
    return lambda hidden, weight: (
        linear_cross_entropy.linear_cross_entropy(hidden, weight, targets, rows).total
    )


def liger(inputs: Inputs, precise: bool = False) -> Loss:
    """As its models call it; `precise` sums the weight's gradient in float32, as ours does."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    kind = torch.float32 if precise else None
    labels = inputs.rest["labels"]
    return lambda hidden, weight: liger_fused_linear_cross_entropy(
        hidden, weight, labels, reduction="sum", ignore_index=IGNORED, accum_dtype=kind
    )


def cut(inputs: Inputs, filtered: bool = True) -> Loss:
    """Apple's; `filtered` leaves out gradients below a threshold, as is its default."""
    from cut_cross_entropy import linear_cross_entropy as apple

    labels = inputs.rest["labels"]
    more = {} if filtered else {"filter_eps": None}
    return lambda hidden, weight: apple(hidden, weight, labels, reduction="sum", **more)


def trl(inputs: Inputs) -> Loss:
    """The loss of TRL's SFTTrainer ("nll"), with its sizes of chunks."""
    try:
        import trl.trainer.utils  # noqa: F401
    except ImportError:  # a package of its trainers is missing; the loss wants one name of them
        utils = ModuleType("trl.trainer.utils")
        utils.maybe_gather_lm_head_ctx = lambda *_: nullcontext()  # type: ignore[attr-defined]
        sys.modules["trl.trainer.utils"] = utils
    from trl.kernels import ChunkedLogProbFunction

    labels = inputs.rest["labels"]

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        kept = labels != IGNORED
        made = ChunkedLogProbFunction.apply(
            hidden[kept], weight, None, labels[kept], 1.0, 32768, None, 1.0, ()
        )
        total: Tensor = -made[0].sum()
        return total

    return loss


KERNEL = Kernel(
    name="linear_cross_entropy",
    title="linear cross-entropy",
    results=("loss", "dhidden", "dweight"),
    tokens={"135M": 2**15, "1B": 2**14, "7B": 2**14},
    small=128,
    inputs=inputs,
    work=work,
    truth=truth,
    peers={
        OURS: ours,
        PYTORCH: pytorch,
        "pytorch, all rows": eager,
        "torch.compile": compiled(pytorch),
        "liger": liger,
        "liger, float32 dW": lambda inputs: liger(inputs, precise=True),
        "cut cross-entropy": cut,
        "cut, unfiltered": lambda inputs: cut(inputs, filtered=False),
        "trl": trl,
    },
    odd=(
        Shape(tokens=7, hidden=64, vocabulary=1),
        Shape(tokens=40, hidden=576, vocabulary=1009),
        Shape(tokens=333, hidden=96, vocabulary=4097),
        Shape(tokens=300, hidden=576, vocabulary=49152, longest=100),
    ),
    captured=False,  # the peers wait for the device to count the supervised rows
    module=linear_cross_entropy,
    tune=(
        *grid(CHUNK_BYTES=tuple(2**power for power in range(25, 31))),
        *grid(BLOCK=(2048, 4096, 8192, 16384), num_warps=(4, 8, 16)),
    ),
)
