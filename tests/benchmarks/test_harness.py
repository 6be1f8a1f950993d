"""The benchmarks' own machinery, tiny and on the CPU: a check that they make can fail."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from benchmarks import ROOT, finetune, gpu, kernels, measure
from magicoder.custom_kernels.rms_norm import reference

SHAPES = [(5, 64), (2, 3, 576)]
CPU = torch.device("cpu")
TINY = LlamaConfig(
    vocab_size=97,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
)


def test_exactness_accepts_pytorch_and_refuses_a_wrong_norm() -> None:
    assert all(row["exact"] for row in kernels.exactness(reference, CPU, SHAPES))

    def rounded(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return reference(x, weight, eps * 2)

    wrong = {row["what"] for row in kernels.exactness(rounded, CPU, SHAPES) if not row["exact"]}
    assert wrong == {"y", "dx", "dw"}
    nan = kernels.exactness(lambda x, w, eps: reference(x, w, eps) * torch.nan, CPU, SHAPES)
    assert not any(row["exact"] for row in nan)


def test_kernels_report_what_they_measured(tmp_path: Path) -> None:
    record = kernels.benchmark({"tiny": (64, 8)}, CPU)
    assert kernels.report(record, tmp_path)
    written = json.loads((tmp_path / "rms_norm.json").read_text())
    assert [row["peer"] for row in written["speed"]] == ["magicoder", "pytorch", "torch rms_norm"]
    for row in written["speed"]:
        assert row["forward_s"] > 0
        size = 64 * 8 * 2
        share = 5 * size / row["both_s"] / row["copy_bytes_a_second"]
        assert row["both_share"] == pytest.approx(share)
    record["exactness"][0]["exact"] = False
    assert not kernels.report(record, tmp_path)


def test_seconds_are_seconds() -> None:
    assert 0.002 <= measure.seconds(lambda: time.sleep(0.002), CPU) < 1


def test_a_model_step_is_compared_with_itself() -> None:
    record = gpu.model_steps(TINY, 2, 16, CPU)
    assert record["layers_served"] == 0
    assert record["loss_difference"] == record["gradient_difference"] == 0
    assert record["transformers"]["seconds"] > 0
    assert record["magicoder"]["seconds"] > 0


def test_packed_and_padded_steps_do_the_same_work() -> None:
    documents = finetune.draw(5, 97, 40)
    record = finetune.packing_against_padding(TINY, documents, 64, CPU)
    assert record["loss_difference"] < 1e-5
    assert record["tokens"] == sum(map(len, documents)) < record["padded_tokens"]
    for name in ("packed", "padded"):
        seconds = record["supervised"] / record[name]["supervised_a_second"]
        assert record[name]["seconds"] == pytest.approx(seconds)


def test_the_recipe_has_data_and_needs_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    functions = finetune._functions(finetune.TEXTS)
    assert len(functions) > 100
    assert any("def dedent(" in row["solution"] for row in functions)
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path))
    assert finetune.recipe() == {
        "skipped": "the embedded model is not pulled: magicoder models pull smollm2-135m"
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_without_a_gpu_one_line_says_so() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr == "benchmarks.gpu needs an NVIDIA or AMD GPU, and PyTorch finds none\n"


def test_the_rooms_are_found_where_magicoder_is_not_installed() -> None:
    code = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [entry for entry in sys.path if "editable" not in entry]
sys.path_hooks = [hook for hook in sys.path_hooks if "editable" not in repr(hook).lower()]
sys.path_importer_cache.clear()
import benchmarks
import magicoder.custom_kernels.fallback
import magicoder.training.data
print(magicoder.custom_kernels.fallback.__file__)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()) == ROOT / "custom_kernels" / "fallback.py"
