"""Finetuning: packs against padded batches of plain transformers, and the embedded model's recipe.

    python -m benchmarks.finetune

Packing is measured with random weights of the embedded model's shape, which cost what real ones
do; the recipe needs the real ones and is skipped where they were not pulled.
"""

import inspect
import json
import random
import shutil
import statistics
import string
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks import measure
from magicoder import embedded
from magicoder.custom_kernels import kernelize
from magicoder.training import attention, packing
from magicoder.training.loss import SupervisedLoss
from magicoder.training.packing import IGNORED, Document

TEXTS = (inspect, json, random, shutil, statistics, string, tempfile, textwrap)


def draw(count: int, vocabulary: int, longest: int) -> list[Document]:
    """Random tokens in documents as OSS-Instruct has them: skewed lengths, 45% trained on."""
    chance = random.Random(0)  # noqa: S311
    documents = []
    for _ in range(count):
        length = min(longest, max(4, round(chance.lognormvariate(6, 0.5) * longest / 1216)))
        ids = [chance.randrange(vocabulary) for _ in range(length)]
        prompt = round(0.55 * length)
        documents.append(Document(ids, [IGNORED] * prompt + ids[prompt:]))
    return documents


def packed(
    model: Any, documents: list[Document], capacity: int, device: torch.device
) -> Callable[[], Tensor]:
    """A step of `magicoder train`: forward and backward of all documents; gives the mean loss."""
    loss_of = SupervisedLoss(model)
    rows = packing.pack([len(document) for document in documents], capacity)
    packs = [packing.collate([documents[i] for i in row]).to(device) for row in rows]
    supervised = sum(len(pack.rows) for pack in packs)

    def step() -> Tensor:
        total = torch.zeros((), device=device)
        for pack in packs:
            hidden = model.base_model(
                input_ids=pack.input_ids,
                position_ids=pack.position_ids,
                cu_seqlens=pack.cu_seqlens,
                lengths=pack.lengths,
                use_cache=False,
            ).last_hidden_state
            loss = loss_of(hidden, pack) / supervised
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    return step


def padded(model: Any, documents: list[Document], device: torch.device) -> Callable[[], Tensor]:
    """The same step in plain transformers: one batch, as wide as its longest document."""
    width = max(map(len, documents))
    ids = [document.ids + [0] * (width - len(document)) for document in documents]
    labels = [d.labels + [IGNORED] * (width - len(d)) for d in documents]
    masks = [[1] * len(document) + [0] * (width - len(document)) for document in documents]
    batch = {
        "input_ids": torch.tensor(ids, device=device),
        "labels": torch.tensor(labels, device=device),
        "attention_mask": torch.tensor(masks, device=device),
    }

    def step() -> Tensor:
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        found: Tensor = loss.detach()
        return found

    return step


def packing_against_padding(
    config: LlamaConfig, documents: list[Document], capacity: int, device: torch.device
) -> dict[str, Any]:
    """Seconds, supervised tokens a second and peak memory of both steps in bfloat16.

    `loss_difference` is between the two in float32, relative.
    """
    record: dict[str, Any] = {
        "documents": len(documents),
        "tokens": sum(map(len, documents)),
        "padded_tokens": len(documents) * max(map(len, documents)),
        "supervised": sum(label != IGNORED for d in documents for label in d.labels[1:]),
    }
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        for name in ("packed", "padded"):
            torch.manual_seed(0)
            seen = attention.NAME if name == "packed" else "sdpa"
            model = AutoModelForCausalLM.from_config(config, attn_implementation=seen)
            model = model.to(device, dtype)
            if name == "packed":
                step = packed(kernelize(model), documents, capacity, device)
            else:
                step = padded(model, documents, device)
            if dtype == torch.float32:
                losses.append(step().item())
                continue
            seconds, peak = measure.step(step, device)
            speed = record["supervised"] / seconds
            record[name] = {"seconds": seconds, "supervised_a_second": speed, "peak_bytes": peak}
    record["loss_difference"] = abs(losses[0] - losses[1]) / losses[1]
    record["speedup"] = record["padded"]["seconds"] / record["packed"]["seconds"]
    return record


def recipe(modules: tuple[ModuleType, ...] = TEXTS) -> dict[str, Any]:
    """Run the recipe `smollm2-lora` for an epoch over Python's own documented functions."""
    trouble = embedded.fault()
    if trouble is not None:
        return {
            "skipped": f"the embedded model is {trouble}: magicoder models pull {embedded.NAME}"
        }
    from magicoder.training import finetune
    from magicoder.training.recipe import load

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "functions.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in _functions(modules)))
        steps: list[finetune.Step] = []
        told = [f"data=[{data}]", f"output={folder}/out", "epochs=1"]
        finetune.run(load("smollm2-lora", told), watch=steps.append)
    return {
        "steps": len(steps),
        "losses": [step.loss for step in steps],
        "tokens_a_second": [step.tokens / step.seconds for step in steps],
    }


def _functions(modules: tuple[ModuleType, ...]) -> list[dict[str, str]]:
    """What each documented function is to do, and its source."""
    return [
        {"problem": f"Write the Python function {name}. {text}", "solution": inspect.getsource(one)}
        for module in modules
        for name, one in inspect.getmembers(module, inspect.isfunction)
        if one.__module__ == module.__name__ and (text := inspect.getdoc(one))
    ]


def benchmark() -> dict[str, Any]:
    """The whole record; small on a CPU, where the recipe would take long."""
    if not torch.cuda.is_available():
        documents = draw(8, measure.EMBEDDED.vocab_size, 1216)
        return packing_against_padding(measure.EMBEDDED, documents, 1216, torch.device("cpu"))
    documents = draw(32, measure.EMBEDDED.vocab_size, 1216)
    record = packing_against_padding(measure.EMBEDDED, documents, 8192, torch.device("cuda"))
    return record | {"recipe": recipe()}


def main() -> int:
    record = benchmark()
    print(measure.write("finetune", record, measure.results()), record)
    return 0 if record["loss_difference"] < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
