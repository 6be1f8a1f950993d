"""The benchmarks' own machinery, tiny and on the CPU: a check that they make can fail."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from benchmarks import ROOT, documents, finetune, gpu, kernels, measure, step
from benchmarks.kernels import __main__ as command
from benchmarks.kernels import harness, plots
from benchmarks.kernels.harness import OURS, PYTORCH, Inputs, Kernel, Shape
from magicoder.custom_kernels.fallback import say_once

CPU = torch.device("cpu")
SMALL = Shape(tokens=33, hidden=64, intermediate=96, vocabulary=101, longest=20)
TINY = LlamaConfig(
    vocab_size=97,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Of so small inputs, more threads spend their time waiting for each other."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


def tiny(name: str) -> Kernel:
    """The table of a kernel, at one small shape."""
    return replace(kernels.load(name), tokens={"135M": 8}, small=8, odd=(SMALL,))


def test_documents_have_the_lengths_and_shares_of_oss_instruct() -> None:
    lengths = documents.fill(100_000)
    assert sum(lengths) == 100_000
    assert 380 < sorted(lengths)[len(lengths) // 2] < 430
    assert max(lengths) <= documents.LONGEST
    rows = documents.supervised(lengths)
    assert 0.44 < len(rows) / 100_000 < 0.46
    ends = {sum(lengths[: i + 1]) - 1 for i in range(len(lengths))}
    assert not ends.intersection(rows)  # a document's last token has no next one
    assert documents.supervised((1, 2)) == [1]


def test_exactness_accepts_pytorch_and_refuses_a_wrong_kernel() -> None:
    kernel = tiny("rms_norm")
    assert all(row["exact"] for row in harness.exactness(kernel, CPU, PYTORCH))

    def wrong(factor: float) -> Kernel:
        norm = kernel.peers[PYTORCH]
        made = {"wrong": lambda inputs: lambda x, w: norm(inputs)(x, w) * factor}
        return replace(kernel, peers=kernel.peers | made)

    rows = list(harness.exactness(wrong(1.01), CPU, "wrong"))
    assert {row["what"] for row in rows if not row["exact"]} == {"y", "dx", "dweight"}
    assert not any(row["exact"] for row in harness.exactness(wrong(torch.nan), CPU, "wrong"))


def test_a_peer_that_writes_over_its_inputs_is_compared_fairly() -> None:
    kernel = tiny("rms_norm")
    norm = kernel.peers[PYTORCH]

    def careless(inputs: Inputs):
        def run(x, w):
            y = norm(inputs)(x, w)
            with torch.no_grad():
                x.data.zero_()  # as a kernel does it, which autograd does not see
            return y

        return run

    rows = list(harness.exactness(replace(kernel, peers=kernel.peers | {"c": careless}), CPU, "c"))
    assert any(row["error"] > 0.02 for row in rows)  # it ruined its own backward
    assert all(row["pytorch"] < 0.1 for row in rows)  # and nobody else's


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One timed run instead of many, and ceilings that are given."""
    monkeypatch.setattr(measure, "seconds", lambda run, **_: measure.host_seconds(run, 1))
    given = {"copy_bytes_a_second": 1e9, "flops_a_second": 1e10}
    monkeypatch.setattr(measure, "ceilings", lambda _: given)
    monkeypatch.setattr(measure, "matrix_rate", lambda *_: given["flops_a_second"])


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("name", kernels.NAMES)
def test_every_kernel_has_a_record(name: str, tmp_path: Path) -> None:
    kernel = tiny(name)
    if kernel.check:
        kernel = replace(kernel, check=lambda *_: iter([{"exact": True}]))
    record = harness.benchmark(kernel, CPU)
    assert command.report(record, tmp_path)
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert list(dict.fromkeys(row["peer"] for row in written["speed"])) == list(kernel.peers)
    assert written["runs"].startswith("PyTorch in the kernel's place")
    for row in written["speed"]:
        if "failed" in row:  # a peer that is not installed, or needs a GPU, says so
            assert row["peer"] not in (OURS, PYTORCH)
            continue
        for what in ("forward", "both")[: 1 + kernel.differentiable]:
            roof = written["ceilings"]
            floor = max(
                row[f"{what}_bytes"] / roof["copy_bytes_a_second"],
                row[f"{what}_flops"] / roof["flops_a_second"],
            )
            assert row[f"{what}_share"] == pytest.approx(floor / row[f"{what}_s"])
    assert plots.records(tmp_path, kernels.NAMES) == [written]
    written["exactness"][0]["exact"] = False
    assert not command.report(written, tmp_path)


@pytest.mark.usefixtures("_quick")
def test_ours_failing_is_recorded_and_fails_the_run(tmp_path: Path) -> None:
    def broken(_: Inputs):
        raise RuntimeError("an illegal address")

    kernel = tiny("glu")
    record = harness.benchmark(replace(kernel, peers=kernel.peers | {OURS: broken}), CPU)
    rows = {row["peer"]: row for row in record["speed"]}
    assert rows[OURS]["failed"] == "RuntimeError: an illegal address"
    assert rows[PYTORCH]["forward_s"] > 0
    assert record["exactness"][0]["failed"] == rows[OURS]["failed"]
    assert not command.report(record, tmp_path)


def test_what_autograd_keeps_is_counted_once() -> None:
    x = torch.randn(100, requires_grad=True)
    with measure.saved() as storages:
        y = x[:50] * x[50:]  # two views of one storage
        z = y.exp()
    assert sorted(storages.values()) == [200, 400]
    del z


def test_a_sweep_changes_the_launch_and_leaves_it_as_it_was() -> None:
    class Module:
        CONSTANT = 1

        @staticmethod
        def launch(of: str) -> tuple[int, dict[str, int]]:
            return 3, {"num_warps": 4}

    usual = Module.launch
    with harness._tuned(Module, {"of": "dq", "num_warps": 8, "CONSTANT": 2}):
        assert Module.launch("dq") == (3, {"num_warps": 8})
        assert Module.launch("forward") == (3, {"num_warps": 4})
        assert Module.CONSTANT == 2
    assert (Module.launch, Module.CONSTANT) == (usual, 1)
    assert len(harness.grid(a=(1, 2), b=(3, 4, 5))) == 6


def test_what_falls_back_is_collected() -> None:
    with harness.said() as reasons:
        say_once("RoPE", "it rains")
    assert reasons == ["RoPE runs in PyTorch: it rains"]


def test_the_table_for_attention_is_of_gpus_alone() -> None:
    assert kernels.load("attention").after({"speed": []}) == {}


def test_seconds_are_seconds() -> None:
    assert 0.002 <= measure.seconds(lambda: time.sleep(0.002), CPU) < 1


@pytest.mark.usefixtures("_quick")
def test_packed_and_padded_steps_do_the_same_work(tmp_path: Path) -> None:
    batches = [step.draw(120, 97, 40, seed) for seed in range(2)]
    peers = {name: step.PEERS[name] for name in (step.PADDED, step.OURS, step.LIGER)}
    record = step.benchmark(TINY, batches, CPU, peers, runs=2)
    step.compare(record)
    assert step.good(record)
    ours, padded = (record["peers"][name] for name in (step.OURS, step.PADDED))
    assert ours["flops"] == record["useful_flops"] < padded["flops"]
    assert ours["saved_bytes"] < padded["saved_bytes"]
    speed = record["against"][step.PADDED]["speed"]
    assert speed == pytest.approx(padded["seconds"] / ours["seconds"])
    assert step.report(record, tmp_path) == 0
    ours["gradient_difference"] = torch.nan
    assert not step.good(record)


def test_operations_of_a_step_are_those_of_the_formula() -> None:
    """Against PyTorch's own count of matrix products, of a model without documents or padding."""
    from torch.utils.flop_counter import FlopCounterMode

    batch = step.Batch((16,), torch.arange(16), torch.arange(16), torch.arange(16))
    counter = FlopCounterMode(display=False)
    with step.padded(TINY, torch.float32, CPU) as (_, prepare), counter:
        prepare(batch)()
    counted = counter.get_flop_counts()["Global"]
    linear = sum(n for op, n in counted.items() if op == torch.ops.aten.mm)
    attention = 12 * 2 * 64 * 16**2
    assert step.operations(TINY, batch, step.PADDED) - attention == linear


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


def test_a_part_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results"
    (tmp_path / "benchmarks").mkdir()
    lines = {"good": "", "bad": "raise SystemExit('why')", "slow": "import time; time.sleep(9)"}
    for name, line in lines.items():
        (tmp_path / "benchmarks" / f"{name}.py").write_text(line)
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    parts = tuple(gpu.Part(name, (name,), 5.0) for name in ("bad", "good"))
    slow = gpu.Part("slow", ("slow",), 5.0)
    assert not gpu.every(parts, folder)
    rows = json.loads((folder / "parts.json").read_text())["parts"]
    assert rows[0]["failed"] == "why"
    assert "failed" not in rows[1]
    assert gpu.run(replace(slow, seconds=0.3), 9)["failed"] == "stopped after 0 s"
    assert gpu.run(slow, gpu.LEAST - 1)["failed"] == "no time was left"
    assert gpu.every(parts[1:], folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_without_a_gpu_one_line_says_so() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr == "benchmarks.gpu needs an NVIDIA or AMD GPU, and PyTorch finds none\n"


def test_every_part_of_the_gpu_run_exists() -> None:
    for part in gpu.PARTS:
        assert part.arguments[0] in ("kernels", "step", "finetune")
        assert set(part.arguments[1:]) <= set(kernels.NAMES)
    assert {name for part in gpu.PARTS for name in part.arguments[1:]} == set(kernels.NAMES)


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
