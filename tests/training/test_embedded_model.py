"""LoRA on the embedded model, through the recipe that comes with Magicoder."""

import json

import pytest

from magicoder.training import finetune, recipe


@pytest.mark.e2e
def test_its_loss_falls(tmp_path):
    rows = [
        {
            "problem": f"Write a Python function that multiplies a number by {number}.",
            "solution": f"```python\ndef times_{number}(x):\n    return x * {number}\n```",
        }
        for number in range(2, 18)
    ]
    data = tmp_path / "dataset.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = recipe.load(
        "smollm2-lora", [f"data=[{data}]", f"output={tmp_path / 'out'}", "epochs=2"]
    )
    steps = []
    adapter = finetune.run(chosen, watch=steps.append)
    assert len(steps) == 4
    assert steps[-1].loss < 0.8 * steps[0].loss
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == (
        "smollm2-135m"
    )
