"""Recipes: what is read, and that each mistake is told in one line with its key."""

import pytest

from magicoder.errors import UsageError
from magicoder.training import recipe

MINIMAL = """\
model: smollm2-135m
data: [a.jsonl]
output: out
max_length: 100
pack_length: 200
batch_size: 4
epochs: 1
checkpoint_every: 1
optimizer: {name: adamw, learning_rate: 1e-4}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    return path


def test_the_paper_s_figures():
    found = recipe.load("magicoder-cl")
    assert found.model == "codellama-7b-python"
    assert (found.epochs, found.batch_size, found.max_length) == (2, 512, 1216)
    assert (found.prompt, found.dtype, found.lora) == ("magicoder", "bfloat16", None)
    chosen = found.optimizer
    assert (chosen.name, chosen.learning_rate, chosen.warmup_steps) == ("adafactor", 5e-5, 15)


def test_every_named_recipe_loads():
    assert recipe.names() == ["magicoder-cl", "smollm2-lora"]
    for name in recipe.names():
        recipe.load(name)


def test_overrides_reach_into_sections(file):
    found = recipe.load(
        file,
        [
            "epochs=3",
            "optimizer.learning_rate=2e-5",  # YAML reads this as a text
            "lora.rank=8",  # a section that was null
            "lora.targets=[q_proj]",
            "data=[b.jsonl, c.jsonl]",
        ],
    )
    assert (found.epochs, found.optimizer.learning_rate, found.optimizer.name) == (3, 2e-5, "adamw")
    assert found.lora
    assert (found.lora.rank, found.lora.targets) == (8, ["q_proj"])
    assert [path.name for path in found.data] == ["b.jsonl", "c.jsonl"]
    assert recipe.load(file, ["lora.rank=8", "lora=null"]).lora is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: [", "line 1: not YAML"),
        ("- model", "expected keys and values"),
        ("", "expected keys and values"),
        ("modell: x\n" + MINIMAL, "unknown key 'modell': use one of model, data"),
        (
            MINIMAL.replace("name: adamw", "nam: adamw"),
            "unknown key 'optimizer.nam': use one of name, learning_rate",
        ),
        (MINIMAL + "lora: {rnk: 8}", "unknown key 'lora.rnk': use one of rank, alpha"),
        (
            MINIMAL + "lora: {rank: big}",
            "key 'lora.rank' is 'big': expected a whole number above 0",
        ),
        (MINIMAL + "lora: {targets: [1]}", "expected all-linear or a list of layer names"),
        (MINIMAL + "lora: yes", "key 'lora' is True: expected a section, or null"),
        (MINIMAL + "optimizer: 3", "key 'optimizer' is 3: expected a section"),
        (MINIMAL + "data: [[1]]", r"key 'data' is \[1\]: expected a list of JSONL files"),
        (MINIMAL + "data: []", r"key 'data' is \[\]: expected a list of JSONL files"),
        (MINIMAL + "epochs: 0", "key 'epochs' is 0: expected a whole number above 0"),
        (MINIMAL + "prompt: alpaca", r"key 'prompt' is 'alpaca': expected magicoder \(the paper's"),
        (MINIMAL + "max_length: 300", "pack_length must be at least max_length"),
        (
            MINIMAL.replace("model: smollm2-135m\n", ""),
            "key 'model' is missing: expected a model's",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_key(file, text, says):
    file.write_text(text)
    with pytest.raises(UsageError, match=says) as told:
        recipe.load(file)
    assert str(told.value).startswith(str(file))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("epochs", "--set epochs: expected key=value"),
        ("epochs=[", r"--set epochs=\[: the value is not YAML"),
        ("epoch=3", "--set: unknown key 'epoch'"),
        ("epochs=many", "--set: key 'epochs' is 'many': expected a whole number above 0"),
        ("lora.rank=0", "--set: key 'lora.rank' is 0"),
        ("optimizer=3", "--set: key 'optimizer' is 3: expected a section"),
        ("epochs.x=3", "--set: key 'epochs' is"),
    ],
)
def test_a_mistake_in_an_override_is_told_as_such(file, override, says):
    with pytest.raises(UsageError, match=says):
        recipe.load(file, [override])


@pytest.mark.parametrize("source", ["nothing", "nothing.yaml"])
def test_an_unknown_recipe_lists_the_known_ones(source):
    with pytest.raises(UsageError, match=f"no recipe {source}: .* magicoder-cl, smollm2-lora"):
        recipe.load(source)


def test_what_is_not_text_is_told(file):
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not text: give a YAML file"):
        recipe.load(file)
