"""Whole runs on a tiny model: exactness, resuming, and what comes out."""

import json
import signal
import subprocess
import sys

import pytest
import torch
from filelock import FileLock
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from magicoder.custom_kernels import ATTENTION
from magicoder.errors import MagicoderError, UsageError
from magicoder.training import finetune, packing
from magicoder.training.recipe import Recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "dataset.jsonl"
    rows = [
        {"problem": f"Add {number}.", "solution": f"```python\nx + {number}\n```" + "!" * number}
        for number in range(13)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def recipe(tiny, data, tmp_path):
    def make(name="out", **changed):
        optimizer = {"name": "adamw", "learning_rate": 1e-2, "warmup_steps": 2}
        base = {
            "model": str(tiny),
            "data": [data],
            "output": tmp_path / name,
            "max_length": 512,
            "pack_length": 512,
            "batch_size": 5,
            "epochs": 2,
            "dtype": "float32",
            "lora": {"rank": 4, "alpha": 8},
            "optimizer": optimizer,
            "checkpoint_every": 2,
        }
        changed["optimizer"] = {**optimizer, **changed.get("optimizer", {})}
        return Recipe.model_validate({**base, **changed})

    return make


def weights(folder):
    return next(folder.glob("*.safetensors")).read_bytes()


def metrics(recipe):
    lines = (recipe.output / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


class StoppedError(Exception):
    pass


def stop_at(number):
    def watch(step):
        if step.step == number:
            raise StoppedError

    return watch


LORA = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.3}}
FULL = {"lora": None, "dtype": "bfloat16", "optimizer": {"name": "adafactor"}}
IN_8_BITS = {"lora": None, "dtype": "bfloat16", "optimizer": {"name": "adamw8bit"}}


@pytest.mark.parametrize("changed", [LORA, FULL, IN_8_BITS], ids=["lora", "full", "8 bits"])
def test_an_interrupted_run_ends_with_the_same_bits(recipe, changed):
    whole, broken = recipe("whole", **changed), recipe("broken", **changed)
    truth = weights(finetune.run(whole))
    for number in (1, 3, 4):
        with pytest.raises(StoppedError):
            finetune.run(broken, watch=stop_at(number))
    said, steps = [], []
    found = weights(finetune.run(broken, report=said.append, watch=steps.append))
    assert found == truth
    assert "going on after step 2 of 6" in said
    assert [step.step for step in steps] == [3, 4, 5, 6]
    clean = [
        [{k: v for k, v in step.items() if k != "seconds"} for step in metrics(run)]
        for run in (whole, broken)
    ]
    assert clean[0] == clean[1]
    assert [step["step"] for step in clean[1]] == [1, 2, 3, 4, 5, 6]


KILLED = """
import os, signal, sys
from magicoder.training import finetune
from magicoder.training.recipe import Recipe

recipe, where, number = Recipe.model_validate_json(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
replace = os.replace

def replaced(source, target):
    if where in str(target):
        kill()
    replace(source, target)

os.replace = replaced
finetune.run(recipe, watch=lambda step: where == "step" and step.step == number and kill())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("where", "number"), [("step", 3), ("checkpoint.pt", 0), ("adapter", 0)])
def test_kill_9_costs_nothing_but_time(recipe, where, number):
    whole, killed = recipe("whole"), recipe("killed")
    truth = weights(finetune.run(whole))
    command = [sys.executable, "-c", KILLED, killed.model_dump_json(), where, str(number)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert not (killed.output / "adapter").exists()
    assert weights(finetune.run(killed)) == truth


def test_a_finished_run_does_nothing_again(recipe):
    chosen = recipe()
    before = weights(finetune.run(chosen))
    steps = []
    assert weights(finetune.run(chosen, watch=steps.append)) == before
    assert not steps
    assert len(metrics(chosen)) == 6


def test_a_checkpoint_of_another_run_is_refused(recipe, data, tmp_path):
    finetune.run(recipe())
    finetune.run(recipe(checkpoint_every=5))  # how often does not matter
    for changed in ({"seed": 1}, {"epochs": 3}, {"lora": {"rank": 2}}):
        with pytest.raises(UsageError, match="belongs to another recipe or dataset"):
            finetune.run(recipe(**changed))
    other = tmp_path / "other.jsonl"
    other.write_text(data.read_text().replace("Add", "Sub"))
    with pytest.raises(UsageError, match="belongs to another"):
        finetune.run(recipe(data=[other]))


def test_the_mean_is_over_all_tokens_of_a_step_however_they_are_packed(recipe):
    """One pack a step against one document a pack; the truth is transformers' own loss."""
    runs = [recipe(f"{length}", batch_size=13, pack_length=length) for length in (8192, 512)]
    for run in runs:
        finetune.run(run)
    one, many = (metrics(run)[0] for run in runs)
    assert one["tokens"] == many["tokens"]
    assert one["loss"] == pytest.approx(many["loss"], rel=1e-6)
    assert one["grad_norm"] == pytest.approx(many["grad_norm"], rel=1e-5)

    model = AutoModelForCausalLM.from_pretrained(runs[0].model)
    tokenizer = AutoTokenizer.from_pretrained(runs[0].model)
    documents, _ = packing.tokenize(packing.read(runs[0].data), tokenizer, "magicoder", 512)
    total = count = 0
    for document in documents:
        labels = torch.tensor([document.labels])
        here = int((labels[0, 1:] != packing.IGNORED).sum())
        ids = torch.tensor([document.ids])
        total += model(input_ids=ids, labels=labels).loss.item() * here
        count += here
    assert one["supervised"] == count
    assert one["loss"] == pytest.approx(total / count, rel=1e-6)


def test_the_rate_rises_and_falls_in_straight_lines(recipe):
    chosen = recipe(epochs=3, optimizer={"warmup_steps": 3})
    finetune.run(chosen)
    rates = [step["learning_rate"] for step in metrics(chosen)]
    assert rates == pytest.approx(
        [1e-2 * part for part in (0, 1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6)]
    )


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_plain_peft_finds_in_the_adapter_what_was_learnt(recipe, name):
    chosen = recipe(epochs=12, optimizer={"name": name, "learning_rate": 5e-2})
    adapter = finetune.run(chosen)
    losses = [step["loss"] for step in metrics(chosen)]
    assert losses[-1] < 0.95 * losses[0]

    tokenizer = AutoTokenizer.from_pretrained(chosen.model)
    (document, *_), _ = packing.tokenize(packing.read(chosen.data), tokenizer, "magicoder", 512)
    ids, labels = torch.tensor([document.ids]), torch.tensor([document.labels])
    base = AutoModelForCausalLM.from_pretrained(chosen.model)
    before = base(input_ids=ids, labels=labels)
    after = PeftModel.from_pretrained(base, adapter)(input_ids=ids, labels=labels)
    assert (after.logits - before.logits).abs().max() > 0.1
    assert after.loss < 0.95 * before.loss


def test_the_adapter_is_in_peft_s_format(recipe):
    adapter = finetune.run(recipe())
    assert {file.name for file in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    said = json.loads((adapter / "adapter_config.json").read_text())
    assert (said["peft_type"], said["r"], said["lora_alpha"]) == ("LORA", 4, 8)
    assert said["base_model_name_or_path"] == recipe().model
    tensors = load_file(adapter / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * 7  # A and B, of two layers' seven projections
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())


def test_all_weights_come_out_as_a_model_that_needs_nothing_of_ours(recipe):
    folder = finetune.run(recipe(lora=None))
    assert ATTENTION not in (folder / "config.json").read_text()
    assert AutoTokenizer.from_pretrained(folder).eos_token == "</s>"
    before, after = (
        AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (recipe().model, folder)
    )
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_two_runs_do_not_share_a_folder(recipe):
    chosen = recipe()
    chosen.output.mkdir()
    with FileLock(chosen.output / ".lock"), pytest.raises(UsageError, match="another run"):
        finetune.run(chosen)
    finetune.run(chosen)


def test_an_output_that_is_a_file_is_named(recipe):
    chosen = recipe()
    chosen.output.write_text("")
    with pytest.raises(UsageError, match=r"cannot write to .*set output"):
        finetune.run(chosen)


def test_prompts_that_leave_no_room_are_told(recipe):
    with pytest.raises(UsageError, match="every prompt passes max_length=50"):
        finetune.run(recipe(max_length=50, pack_length=50))


def test_layers_that_the_model_lacks_are_named(recipe):
    with pytest.raises(UsageError, match=r"key 'lora.targets' is \['query'\]: .*query.* not found"):
        finetune.run(recipe(lora={"targets": ["query"]}))


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_kept(recipe):
    chosen = recipe(lora=None, optimizer={"learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(MagicoderError, match=r"the loss is nan at step \d: lower optimizer"):
        finetune.run(chosen)
    assert not (chosen.output / "model").exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_short_memory_is_one_line(recipe, error):
    def fail(_):
        raise error

    with pytest.raises(MagicoderError, match=r"out of memory: lower pack_length \(now 512\)"):
        finetune.run(recipe(), watch=fail)


def test_other_errors_stay_what_they_are(recipe):
    def fail(_):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        finetune.run(recipe(), watch=fail)
