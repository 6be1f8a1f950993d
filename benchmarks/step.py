"""A training step of the embedded model's shape: ours, Liger's, and plain transformers'.

    python -m benchmarks.step

Random weights cost what real ones do. All take the same documents, with the lengths of
OSS-Instruct's, 45% of their tokens trained on; a step is a forward and a backward. In float32 the
losses and gradients are compared, in bfloat16 time and memory are measured.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModelForCausalLM, LlamaConfig

from benchmarks import documents, measure
from benchmarks.kernels import harness
from magicoder.custom_kernels import ATTENTION, attention, kernelize
from magicoder.custom_kernels.linear_cross_entropy import linear_cross_entropy

IGNORED = -100
VARLEN = "benchmark_varlen"
OURS, LIGER, PADDED = "magicoder", "liger + varlen", "transformers, padded"
COMPILED = " + compile"


@dataclass(frozen=True)
class Batch:
    """Documents of random tokens: `ids` and `labels` are `(T,)` on the host, labels shifted.

    `rows` are the places whose next token is trained on.
    """

    lengths: tuple[int, ...]
    ids: Tensor
    labels: Tensor
    rows: Tensor


def draw(tokens: int, vocabulary: int, longest: int, seed: int) -> Batch:
    """Documents that fill a pack of `tokens`."""
    generator = torch.Generator().manual_seed(seed)
    lengths = documents.fill(tokens, longest, seed)
    ids = torch.randint(vocabulary, (tokens,), generator=generator)
    rows = torch.tensor(documents.supervised(lengths))
    labels = torch.full_like(ids, IGNORED)
    labels[rows] = ids[rows + 1]
    return Batch(lengths, ids, labels, rows)


Step = Callable[[], Tensor]  # a forward and backward; gives the mean loss over what is trained on
Prepare = Callable[[Batch], Step]
Peer = Callable[
    [LlamaConfig, torch.dtype, torch.device], AbstractContextManager[tuple[nn.Module, Prepare]]
]


def _model(config: LlamaConfig, attend: str, dtype: torch.dtype, device: torch.device) -> Any:
    """The same weights for every peer."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attend)
    return model.to(device, dtype).train()


def _compile(model: Any) -> None:
    torch.compiler.reset()
    for layer in model.base_model.layers:
        layer.compile()


@contextmanager
def ours(
    config: LlamaConfig, dtype: torch.dtype, device: torch.device, compiled: bool = False
) -> Iterator[tuple[nn.Module, Prepare]]:
    """A step of `magicoder train`: packed attention, our layers, the loss of supervised rows."""
    model = kernelize(_model(config, ATTENTION, dtype, device))
    if compiled:
        _compile(model)

    def prepare(batch: Batch) -> Step:
        told = _packed(batch, device) | {"lengths": batch.lengths}
        targets = batch.labels[batch.rows]

        def step() -> Tensor:
            hidden = model.base_model(**told, use_cache=False).last_hidden_state[0]
            head = model.get_output_embeddings().weight
            loss = linear_cross_entropy(hidden, head, targets, batch.rows).total / len(targets)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        return step

    yield model, prepare


@contextmanager
def liger(
    config: LlamaConfig, dtype: torch.dtype, device: torch.device, compiled: bool = False
) -> Iterator[tuple[nn.Module, Prepare]]:
    """The best open path: Liger's kernels and fused loss, and PyTorch's varlen attention."""
    from liger_kernel.transformers import apply_liger_kernel_to_llama
    from transformers.models.llama import modeling_llama

    names = ("apply_rotary_pos_emb", "LlamaRMSNorm", "LlamaMLP")
    usual = {name: getattr(modeling_llama, name) for name in names}
    try:
        model = _model(config, VARLEN, dtype, device)
        apply_liger_kernel_to_llama(model=model)
        if compiled:
            _compile(model)

        def prepare(batch: Batch) -> Step:
            told = _packed(batch, device) | {"longest": max(batch.lengths)}
            if dtype == torch.float32 or device.type != "cuda":
                told["lengths"] = batch.lengths  # varlen attention takes half precision alone
            labels = batch.labels[None].to(device)

            def step() -> Tensor:
                loss = model(**told, shift_labels=labels, use_cache=False).loss
                loss.backward()
                found: Tensor = loss.detach()
                return found

            return step

        yield model, prepare
    finally:
        for name, value in usual.items():  # Liger patches the module for all models
            setattr(modeling_llama, name, value)


@contextmanager
def padded(
    config: LlamaConfig, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[nn.Module, Prepare]]:
    """Plain transformers: batches of documents, each as wide as its longest, accumulated."""
    model = _model(config, "sdpa", dtype, device)

    def prepare(batch: Batch) -> Step:
        parts = [_padded(batch, part, device) for part in _parts(batch.lengths)]

        def step() -> Tensor:
            total = torch.zeros((), device=device)
            for part in parts:
                told = part | {"num_items_in_batch": len(batch.rows), "use_cache": False}
                loss = model(**told).loss
                loss.backward()
                total += loss.detach()
            return total

        return step

    yield model, prepare


PEERS: dict[str, Peer] = {
    PADDED: padded,
    OURS: ours,
    OURS + COMPILED: partial(ours, compiled=True),
    LIGER: liger,
    LIGER + COMPILED: partial(liger, compiled=True),
}


def _packed(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    places = torch.cat([torch.arange(length) for length in batch.lengths])
    starts = torch.tensor([0, *batch.lengths]).cumsum(0)
    return {
        "input_ids": batch.ids[None].to(device),
        "position_ids": places[None].to(device),
        "cu_seqlens": starts.to(device, torch.int32),
    }


def _parts(lengths: tuple[int, ...]) -> list[range]:
    """Which documents share a padded batch: as many as would fill a pack, and at least 8."""
    count = max(8, sum(lengths) // max(lengths))
    return [range(i, min(i + count, len(lengths))) for i in range(0, len(lengths), count)]


def _padded(batch: Batch, part: range, device: torch.device) -> dict[str, Tensor]:
    starts = [0, *accumulate(batch.lengths)]
    shape = len(part), max(batch.lengths[i] for i in part)
    ids, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, IGNORED)
    for row, i in enumerate(part):
        length, inside = batch.lengths[i], slice(starts[i], starts[i + 1])
        ids[row, :length], mask[row, :length] = batch.ids[inside], 1
        labels[row, 1:length] = batch.labels[inside][:-1]
    told = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: value.to(device) for name, value in told.items()}


def varlen(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seqlens: Tensor,
    longest: int,
    lengths: tuple[int, ...] | None = None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """PyTorch's varlen attention for transformers; with `lengths`, document by document."""
    if lengths is not None:
        split = (states.split(lengths, 2) for states in (query, key, value))
        attend = partial(
            F.scaled_dot_product_attention, is_causal=True, scale=scaling, enable_gqa=True
        )
        done = [attend(q, k, v) for q, k, v in zip(*split, strict=True)]
        return torch.cat(done, 2).transpose(1, 2).contiguous(), None
    q, k, v = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    return attention.varlen(q, k, v, cu_seqlens, (longest,), scale=scaling)[None], None


AttentionInterface.register(VARLEN, varlen)


def operations(config: LlamaConfig, batch: Batch, name: str | None = None) -> int:
    """Operations of a step that `name` does; without a name, those that no method can avoid.

    6 for each weight of a linear layer and token, likewise for the projection to the vocabulary;
    12 for each pair of tokens that see each other, each head's dimension, head and layer. Avoidable
    are padding, pairs that nobody may see, and logits of rows that nobody trains on.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads
    wide = config.head_dim * heads
    narrow = config.head_dim * config.num_key_value_heads
    layer = 2 * hidden * (wide + narrow) + 3 * hidden * config.intermediate_size
    rows = tokens = sum(batch.lengths)
    pairs = sum(length * (length + 1) // 2 for length in batch.lengths)
    if name is None or name.startswith(OURS):
        rows = len(batch.rows)
    elif name == PADDED:
        shapes = [
            (len(part), max(batch.lengths[i] for i in part)) for part in _parts(batch.lengths)
        ]
        rows = tokens = sum(count * width for count, width in shapes)
        pairs = sum(count * width**2 for count, width in shapes)
    linear = 6 * config.num_hidden_layers * layer * tokens
    return (
        linear
        + 6 * hidden * config.vocab_size * rows
        + 12 * config.num_hidden_layers * wide * pairs
    )


def benchmark(
    config: LlamaConfig,
    batches: list[Batch],
    device: torch.device,
    peers: dict[str, Peer] = PEERS,
    runs: int = 4,
) -> dict[str, Any]:
    """Each peer's differences from padding in float32, then its speed and memory in bfloat16.

    Several batches show a compiled model that lengths differ. A peer that fails has the reason.
    """
    supervised = sum(len(batch.rows) for batch in batches) / len(batches)
    rate = measure.matrix_rate(8192 if device.type == "cuda" else 2048, device)
    record: dict[str, Any] = {
        "documents": [len(batch.lengths) for batch in batches],
        "tokens": sum(batches[0].lengths),
        "supervised": supervised,
        "useful_flops": sum(operations(config, batch) for batch in batches) / len(batches),
        "measured_flops_a_second": rate,
        "data_sheet_flops_a_second": measure.data_sheet(),
        "peers": {},
    }
    exact: tuple[Tensor, Tensor] | None = None
    for name, peer in peers.items():
        row: dict[str, Any] = {}
        record["peers"][name] = row
        try:
            if not name.endswith(COMPILED):
                found = _difference(peer, config, batches[0], device)
                exact = exact or found  # plain transformers come first
                for what, one, other in zip(("loss", "gradient"), found, exact, strict=True):
                    row[f"{what}_difference"] = ((one - other).norm() / other.norm()).item()
            with harness.said() as reasons:
                row |= _speed(peer, config, batches, device, runs)
            row["in_pytorch"] = reasons
            row["supervised_a_second"] = supervised / row["seconds"]
            row["flops"] = sum(operations(config, b, name) for b in batches) / len(batches)
            ceiling = record["data_sheet_flops_a_second"] or rate
            row["mfu"] = record["useful_flops"] / row["seconds"] / ceiling
            row["mfu_of_measured_rate"] = record["useful_flops"] / row["seconds"] / rate
        except Exception as error:
            row["failed"] = harness.reason(error)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return record


def _difference(
    peer: Peer, config: LlamaConfig, batch: Batch, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient in one vector, in float32."""
    with peer(config, torch.float32, device) as (model, prepare):
        loss = prepare(batch)()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return loss, torch.cat(gradients)


def _speed(
    peer: Peer, config: LlamaConfig, batches: list[Batch], device: torch.device, runs: int
) -> dict[str, Any]:
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    with peer(config, torch.bfloat16, device) as (model, prepare):
        steps = [prepare(batch) for batch in batches]

        def every() -> None:
            for step in steps:
                model.zero_grad()
                step()

        seconds, peak = measure.step(every, device, runs)
        row: dict[str, Any] = {"seconds": seconds / len(steps)}
        row["peak_bytes"] = peak - before if device.type == "cuda" else None
        model.zero_grad()
        with measure.saved() as storages:
            steps[0]()
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        row["saved_bytes"] = sum(n for place, n in storages.items() if place not in weights)
    return row


def compare(record: dict[str, Any]) -> None:
    """Add how ours, the faster of the two, stands to the others."""
    peers = {name: row for name, row in record["peers"].items() if "failed" not in row}
    mine = {name: row for name, row in peers.items() if name.startswith(OURS)}
    if not mine:
        return
    best = max(mine, key=lambda name: mine[name]["supervised_a_second"])
    record["ours"] = best
    record["against"] = {
        name: {
            "speed": mine[best]["supervised_a_second"] / row["supervised_a_second"],
            "saved_bytes": mine[best]["saved_bytes"] / row["saved_bytes"],
        }
        | ({"peak": mine[best]["peak_bytes"] / row["peak_bytes"]} if row["peak_bytes"] else {})
        for name, row in peers.items()
        if name not in mine
    }


def plot(record: dict[str, Any], figure: Any) -> None:
    """Supervised tokens a second, MFU and memory, a bar a peer."""
    peers = {name: row for name, row in record["peers"].items() if "failed" not in row}
    whole = all(row["peak_bytes"] for row in peers.values())
    memory = "peak_bytes" if whole else "saved_bytes"
    panels: dict[str, tuple[str, float]] = {
        "supervised_a_second": ("supervised tokens a second", 1),
        "mfu": ("MFU, %", 100),
        memory: ("peak memory, GiB" if whole else "kept for the backward, GiB", 2**-30),
    }
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (key, (title, factor)) in zip(all_axes, panels.items(), strict=True):
        values = [row[key] * factor for row in peers.values()]
        colors = ["#d9480f" if name.startswith(OURS) else "#adb5bd" for name in peers]
        bars = axes.barh(list(peers), values, color=colors, height=0.66)
        axes.bar_label(bars, fmt=lambda value: f"{value:,.3g}" if value < 1000 else f"{value:,.0f}",
                       padding=3, fontsize=9)  # fmt: skip
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, 1.22 * max(values))
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    all_axes[0].invert_yaxis()
    machine = measure.machine()
    figure.suptitle(
        f"A training step of SmolLM2-135M's shape on {machine['device']}, bfloat16, "
        f"{record['tokens']:,} tokens",
        x=0.01, ha="left", fontsize=12, fontweight="bold",
    )  # fmt: skip


def good(record: dict[str, Any]) -> bool:
    """Whether ours ran and computes what plain transformers compute."""
    row = record["peers"][OURS]
    differences = (row.get(f"{what}_difference") for what in ("loss", "gradient"))
    return "failed" not in row and all(found is not None and found < 1e-5 for found in differences)


def main() -> int:
    config = measure.EMBEDDED
    if torch.cuda.is_available():
        batches = [draw(8 * 4096, config.vocab_size, documents.LONGEST, seed) for seed in range(3)]
        record = benchmark(config, batches, torch.device("cuda"))
    else:
        batches = [draw(3072, config.vocab_size, documents.LONGEST, 0)]
        peers = {name: PEERS[name] for name in (PADDED, OURS, LIGER)}
        record = benchmark(config, batches, torch.device("cpu"), peers, runs=3)
    compare(record)
    return report(record, measure.results())


def report(record: dict[str, Any], folder: Path) -> int:
    print(measure.write("step", record, folder))
    print(measure.plot(partial(plot, record), folder / "step.png", (11, 3.4)))
    for name, row in record["peers"].items():
        print(f"{name:24}", row)
    print("against", record.get("against"))
    return 0 if good(record) else 1


if __name__ == "__main__":
    sys.exit(main())
