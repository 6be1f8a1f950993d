"""Finetuning: the recipe of the embedded model, whole, on a GPU.

    python -m benchmarks.finetune

It needs the model's own weights and is skipped where they were not pulled; `benchmarks.step`
measures a step with random ones.
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
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks import measure
from magicoder import embedded

TEXTS = (inspect, json, random, shutil, statistics, string, tempfile, textwrap)


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


def main() -> int:
    if not torch.cuda.is_available():
        print("the recipe takes hours without a GPU; python -m benchmarks.step measures a step")
        return 1
    record = recipe()
    print(measure.write("finetune", record, measure.results()), record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
