"""Batch files against vLLM's own classes, and its own runner."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from magicoder.cli.data.batch import batch as command
from magicoder.cli.data.generate import generate as generate_command
from magicoder.errors import UsageError
from magicoder.training.data import batch
from magicoder.training.data.generate import Generate
from magicoder.training.data.records import Seed
from magicoder.training.data.store import Store
from magicoder.training.data.teacher import Teacher

TEXT = "[Problem Description]\nWrite {0}.\n\n[Solution]\n```python\ndef f():\n    return {0}\n```"


@pytest.fixture
def seeds(tmp_path):
    path = tmp_path / "seeds.jsonl"
    numbers = [0, 1, 2, 3, 4, 4]  # the last is the same request
    found = (
        Seed(origin="dir:o", path=f"{place}.py", language="python", code=f"seed_{n} = {n}")
        for place, n in enumerate(numbers)
    )
    path.write_text("".join(seed.model_dump_json() + "\n" for seed in found))
    return path


def invoke(chosen, *arguments):
    made = CliRunner().invoke(chosen, [str(argument) for argument in arguments])
    if made.exception and not isinstance(made.exception, SystemExit):
        raise made.exception
    return made


def write(seeds, output, *options):
    invoke(command, "write", seeds, "-o", output, *options)
    return [json.loads(line) for line in output.read_text().splitlines()]


ALWAYS = ("--model", "m", "--structured", "always")


@pytest.mark.slow
def test_requests_are_what_vllm_reads(seeds, tmp_path):
    protocol = pytest.importorskip("vllm.entrypoints.launchers.run_batch")
    rows = write(seeds, tmp_path / "requests.jsonl", *ALWAYS, "--max-tokens", "90")
    assert len(rows) == 5
    assert len({row["custom_id"] for row in rows}) == 5
    for row in rows:
        read = protocol.BatchRequestInput.model_validate(row)
        assert (read.method, read.url) == ("POST", "/v1/chat/completions")
        wanted = {"model": "m", "max_tokens": 90, "seed": 976, "temperature": 0}
        assert read.body.model_dump().items() >= wanted.items()
        assert read.body.structured_outputs.regex.startswith(r"\[Problem Description\]")
        assert "seed_" in read.body.messages[1]["content"]


def result(request, text, finish="stop", status=200):
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    response = {
        "status_code": status,
        "request_id": "r",
        "body": body | {"choices": [choice], "usage": usage},
    }
    return {"id": "x", "custom_id": request["custom_id"], "response": response, "error": None}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def closed(faulty_server):
    """A server that answers nothing; its requests are counted."""
    return faulty_server(lambda handler, body: None)


def test_after_a_batch_generate_pays_for_nothing(seeds, tmp_path, closed):
    asked = tmp_path / "requests.jsonl"
    rows = write(seeds, asked, *ALWAYS)
    results = lines(tmp_path / "results.jsonl", [result(row, TEXT.format(1)) for row in rows[::-1]])
    store = ("--store", tmp_path / "answers.sqlite")
    assert invoke(command, "read", results, asked, *store).output.split() == ["5", "kept"]
    output = tmp_path / "generate.jsonl"
    invoke(generate_command, seeds, "-o", output, *ALWAYS, "--base-url", closed.base_url)
    assert closed.requests == []
    made = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["seed"]["path"] for row in made] == [f"{place}.py" for place in range(6)]
    assert {row["structured"] for row in made} == {True}
    # A second batch asks for none of them, unless their tokens did not suffice
    with pytest.raises(Exception, match="nothing is left, mostly for 'its answer is in the store'"):
        write(seeds, tmp_path / "again.jsonl", *ALWAYS)


def test_what_did_not_succeed_is_counted_and_asked_again(seeds, tmp_path):
    asked = tmp_path / "requests.jsonl"
    first, second, third, fourth, fifth = write(seeds, asked, *ALWAYS, "--max-tokens", "10")
    failed = {"id": "x", "custom_id": second["custom_id"], "response": None, "error": {"code": 1}}
    results = lines(
        tmp_path / "results.jsonl",
        [
            result(first, "part", "length"),
            failed,
            result(third, "x", status=500),
            result(fourth, ""),
            result({"custom_id": "other"}, "x"),
            result(fifth, TEXT.format(1)),
        ],
    )
    with_store = Store(tmp_path / "answers.sqlite")
    assert batch.read(results, asked, with_store) == {
        "kept": 2,
        "failed": 1,
        "HTTP 500": 1,
        "empty answer": 1,
        "not among the requests": 1,
    }
    with_store.close()
    again = write(seeds, tmp_path / "again.jsonl", *ALWAYS, "--max-tokens", "10")
    assert [row["custom_id"] for row in again] == [
        row["custom_id"] for row in (second, third, fourth)
    ]
    longer = write(seeds, tmp_path / "longer.jsonl", *ALWAYS, "--max-tokens", "20")
    assert len(longer) == 4


def test_vllm_s_own_results_are_read(seeds, tmp_path):
    protocol = pytest.importorskip("vllm.entrypoints.launchers.run_batch")
    asked = tmp_path / "requests.jsonl"
    rows = write(seeds, asked, *ALWAYS)
    theirs = [protocol.BatchRequestOutput.model_validate(result(row, "hi")) for row in rows]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(row.model_dump_json() + "\n" for row in theirs))
    store = Store(tmp_path / "answers.sqlite")
    assert batch.read(results, asked, store) == {"kept": 5}
    store.close()


@pytest.mark.parametrize(
    ("teacher", "style", "says"),
    [
        ({"structured": "never"}, "oss-instruct", "give --model"),
        ({"model": "m"}, "oss-instruct", "give --structured always"),
        ({"model": "m", "structured": "never"}, "self-instruct", "asks no teacher"),
    ],
)
def test_a_batch_that_cannot_be_written_says_why(seeds, tmp_path, teacher, style, says):
    who = Teacher(base_url="http://127.0.0.1:1/v1", **teacher)
    store = Store(tmp_path / "answers.sqlite")
    with pytest.raises(UsageError, match=says):
        batch.step(Generate(style=style), source=seeds, teacher=who, store=store)
    store.close()


def test_results_of_another_batch_are_told(seeds, tmp_path):
    asked = tmp_path / "requests.jsonl"
    write(seeds, asked, *ALWAYS)
    results = lines(tmp_path / "results.jsonl", [result({"custom_id": "other"}, "x")])
    with pytest.raises(Exception, match="holds no answer to"):
        invoke(command, "read", results, asked)
    results.write_text("{]")
    with pytest.raises(UsageError, match=r"results\.jsonl:1 is not a result"):
        invoke(command, "read", results, asked)


@pytest.mark.e2e
def test_vllm_run_batch_answers_our_requests(seeds, tmp_path, closed):
    pytest.importorskip("vllm")
    from magicoder import embedded

    model = str(embedded.pull(print))
    options = ("--model", model, "--structured", "always", "--max-tokens", "500")
    asked, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    write(seeds, asked, *options)
    subprocess.run(
        [
            *(sys.executable, "-m", "vllm.entrypoints.openai.run_batch", "--model", model),
            *("-i", asked, "-o", results, "--enforce-eager", "--max-model-len", "2048"),
            *("--kv-cache-memory-bytes", "500000000"),
        ],
        check=True,
        timeout=500,
    )
    read = invoke(command, "read", results, asked, "--store", tmp_path / "answers.sqlite")
    assert read.output.split() == ["5", "kept"]
    output = tmp_path / "generate.jsonl"
    invoke(generate_command, seeds, "-o", output, *options, "--base-url", closed.base_url)
    assert closed.requests == []
    assert len(output.read_text().splitlines()) == 6
