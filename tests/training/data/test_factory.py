"""Recipes of datasets: what is wrong is one line, and who teaches comes from the settings."""

import subprocess
import sys
from pathlib import Path

import pytest

from magicoder.errors import MagicoderError, UsageError
from magicoder.training.data import factory

LEAST = "output: out\nseeds: {sources: ['dir:src']}\n"


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", factory.names())
def test_the_recipes_that_come_along_are_sound(name):
    assert factory.load(name).seeds.sources


def test_the_paper_s_recipe_is_the_paper_s():
    paper = factory.load("oss-instruct")
    count = paper.seeds.count
    assert sum(count.values()) == 80_000
    assert count.pop("python") == 40_000
    assert set(count) == {"cpp", "java", "typescript", "shell", "csharp", "rust", "php", "swift"}
    assert set(count.values()) == {5_000}
    assert (paper.seeds.extractor, paper.seeds.seed) == ("paper", 976)
    asked = paper.teacher
    assert (asked.temperature, asked.seed, asked.max_tokens) == (0.0, 976, 2500)


def test_the_teacher_is_that_of_the_settings_unless_the_recipe_names_it(recipe, monkeypatch):
    monkeypatch.setenv("MAGICODER_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MAGICODER_API_KEY", "secret")
    teacher = factory.load(recipe(LEAST)).teacher
    assert teacher.base_url == "http://127.0.0.1:9/v1"
    assert teacher.api_key.get_secret_value() == "secret"
    assert teacher.temperature == 0.0
    named = LEAST + "teacher: {base_url: 'http://127.0.0.1:8/v1', temperature: 0.5}\n"
    teacher = factory.load(recipe(named)).teacher
    assert (teacher.base_url, teacher.temperature) == ("http://127.0.0.1:8/v1", 0.5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("output: out\n", "key 'seeds' is missing"),
        (LEAST + "seed: 3\n", "unknown key 'seed': use one of output, seeds, teacher"),
        ("output: out\nseeds: {sources: ['ftp:x']}\n", "no source 'ftp:x'"),
        (LEAST + "teacher: {temprature: 1}\n", "unknown key 'teacher.temprature'"),
        (LEAST + "generate: {style: haiku}\n", "no style 'haiku': use one of oss-instruct"),
        (LEAST + "verify: {samples: 0}\n", "'verify.samples' is 0"),
        (LEAST + "clean: 3\n", "'clean' is 3"),
        (LEAST + "teacher: [1]\n", "'teacher'"),
        (LEAST + "teacher: {api_key: x}\n", "set MAGICODER_API_KEY"),
        ("output: out\nseeds: {sources: ['dir:a'], count: {pyton: 3}}\n", "no language 'pyton'"),
        ("- 1\n", "expected keys and values"),
    ],
)
def test_what_is_wrong_is_named(recipe, text, says):
    with pytest.raises(UsageError) as caught:
        factory.load(recipe(text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cleaning_lacks_is_told_before_anything_is_paid_for(recipe, tmp_path):
    text = LEAST.replace("output: out", f"output: {tmp_path / 'out'}")
    excerpts = Path(__file__).parents[2] / "data" / "benchmarks"
    for clean, says in [
        ("benchmarks: /nowhere", "no benchmarks in"),
        (f"benchmarks: {excerpts}, embedding: /nowhere", "embedding model"),
    ]:
        path = recipe(text + f"clean: {{{clean}}}\n")
        with pytest.raises(MagicoderError, match=says):
            next(factory.works(factory.load(path)))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_errors_of_a_run_are_one_line(recipe, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("def a():\n    return 1\n" * 9)
    for text, code, says in [
        (LEAST, 1, "license"),
        (LEAST.replace("dir:src", "dir:none"), 2, "none"),
        (LEAST.replace("['dir:src']", "['dir:src'], licenses: [any]"), 1, "magicoder serve"),
    ]:
        whole = text + "teacher: {base_url: 'http://127.0.0.1:1/v1', structured: never}\n"
        whole += "clean: {benchmarks: null}\n"
        done = subprocess.run(
            [sys.executable, "-m", "magicoder", "data", "run", str(recipe(whole))],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        last = done.stderr.splitlines()[-1]
        assert (done.returncode, last[:7]) == (code, "error: "), done.stderr
        assert says in last
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
