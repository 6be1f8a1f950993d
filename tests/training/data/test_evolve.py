"""Code Evol-Instruct: which question a sample gets, and what is left out of the answers."""

import json
from collections import Counter

import pytest
from click.testing import CliRunner

from magicoder.cli.data.evolve import evolve as command
from magicoder.training.data import evolve, runner
from magicoder.training.data.evolve import HEURISTICS, Evolve
from magicoder.training.data.records import Answer, Sample
from magicoder.training.data.store import Store
from magicoder.training.data.teacher import Teacher

TASK = "Write a function that adds the numbers {} of a list."


def sample(number):
    return Sample(problem=TASK.format(number), solution=f"```python\nx = {number}\n```")


def send(handler, text, finish="stop"):
    message = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    data = json.dumps({"choices": [message]}).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def good(handler, body):
    """A harder task names the one before it; a solution names its task."""
    asked = body["messages"][0]["content"]
    if "[Given Task]" in asked:
        given = asked.split("[Given Task]\n")[1].split("\n[End")[0]
        send(handler, f"{given} Do it without a loop, for lists of any depth, in one pass.")
    else:
        send(handler, f"```python\n# {asked}\nreturn 1\n```")


def run(server, path, output, **options):
    teacher = Teacher(base_url=server.base_url, in_flight=4, retries=0)
    store = Store(output.with_name("answers.sqlite"))
    step = evolve.step(Evolve(**options), source=path, teacher=teacher, store=store)
    funnel = runner.run(step, output)
    store.close()
    return funnel, [Sample.model_validate_json(line) for line in output.read_text().splitlines()]


@pytest.fixture
def samples(tmp_path):
    path = tmp_path / "generate.jsonl"
    path.write_text("".join(sample(number).model_dump_json() + "\n" for number in range(12)))
    return path


def test_rounds_chain_and_the_originals_stay(faulty_server, samples, tmp_path):
    server = faulty_server(good)
    funnel, found = run(server, samples, tmp_path / "evolve.jsonl", rounds=2)
    assert len(found) == 36
    assert len(server.requests) == funnel.account["requests"] == 12 * 2 * 2
    for number, (old, first, second) in enumerate(zip(*[iter(found)] * 3, strict=True)):
        assert old == sample(number)
        assert (first.evolution.round, second.evolution.round) == (1, 2)
        assert (first.evolution.parent, second.evolution.parent) == (old.id, first.id)
        assert first.problem.startswith(old.problem)
        assert second.problem.startswith(first.problem)
        assert second.problem in second.solution
        assert (first.language, first.teacher) == ("python", "m")
    before = (tmp_path / "evolve.jsonl").read_bytes()
    run(server, samples, tmp_path / "evolve.jsonl", rounds=2)
    assert (tmp_path / "evolve.jsonl").read_bytes() == before
    assert len(server.requests) == 48


def asked(samples, **options):
    records = evolve.evolve(iter(samples), config=Evolve(**options), round=1)
    return [record for record in records if not isinstance(record, Sample)]


def test_the_heuristic_is_the_sample_s_own_and_all_are_used():
    many = [sample(number) for number in range(200)]
    first = asked(many)
    names = [question.record.evolution.heuristic for question in first]
    assert Counter(names).keys() == HEURISTICS.keys()
    assert min(Counter(names).values()) >= 20
    for question, name in zip(first, names, strict=True):
        assert HEURISTICS[name] in question.messages[0]["content"]
    assert asked(list(reversed(many))) == list(reversed(first))
    assert [question.record.evolution.heuristic for question in asked(many, seed=1)] != names
    only = asked(many, heuristics=("complexity",))
    assert {question.record.evolution.heuristic for question in only} == {"complexity"}


LONG = "Write a function that adds all numbers of a nested list, however deep it is, in one pass."


def answered(text, finish="stop"):
    (question,) = asked([sample(1)])
    return Answer(record=question.record, teacher="m", text=text, finish_reason=finish)


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        (LONG, "length", "cut at the token limit"),
        (TASK.format(1), "stop", "equal to its parent"),
        (f"  {TASK.format(1).upper()}\n", "stop", "equal to its parent"),
        ("I'm sorry, but I cannot make this task any harder than it is.", "stop", "refused"),
        ("As an AI language model I have no tasks to give to anybody.", "stop", "refused"),
        (f"[Given Task]\n{LONG}", "stop", "echoes the prompt"),
        ("Add the numbers.", "stop", "too short"),
    ],
)
def test_a_problem_that_is_no_evolution_is_left_out(text, finish, reason):
    (refused,) = evolve.solve(iter([answered(text, finish)]))
    assert refused.reason == f"problem: {reason}"


def test_a_problem_of_nearly_the_same_words_is_too_similar():
    words = " ".join(f"word{number}" for number in range(100))
    assert evolve.fault(words.replace("word7 ", "other "), words) == "too similar to its parent"
    assert evolve.fault(f"{words} {LONG}", words) is None


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("```python\nx = 1", "length", "cut at the token limit"),
        ("Use a loop.", "stop", "no code block"),
        ("I cannot write ```code``` for you.", "stop", "refused"),
    ],
)
def test_an_answer_that_is_no_solution_is_left_out(text, finish, reason):
    (question,) = evolve.solve(iter([answered(LONG)]))
    assert question.messages[0]["content"] == LONG
    answer = Answer(record=question.record, teacher="m", text=text, finish_reason=finish)
    (refused,) = evolve.evolved(iter([answer]))
    assert refused.reason == f"solution: {reason}"


def test_a_failed_evolution_costs_no_other_sample(faulty_server, samples, tmp_path):
    def one_refuses(handler, body):
        hit = TASK.format(3) in body["messages"][0]["content"]
        send(handler, "I'm sorry, no.") if hit else good(handler, body)

    funnel, found = run(faulty_server(one_refuses), samples, tmp_path / "evolve.jsonl")
    assert len(found) == 23
    assert [counts.rejected for counts in funnel.stages if counts.rejected] == [
        {"problem: refused": 1}
    ]


def test_the_command_evolves(faulty_server, samples, tmp_path):
    server = faulty_server(good)
    arguments = [str(samples), "-o", str(tmp_path / "e.jsonl"), "--base-url", server.base_url]
    made = CliRunner().invoke(command, [*arguments, "--heuristic", "rarer", "--rounds", "1"])
    assert made.exit_code == 0, made.output
    rows = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [row["evolution"] and row["evolution"]["heuristic"] for row in rows] == [
        None,
        "rarer",
    ] * 12
    unknown = CliRunner().invoke(command, [*arguments, "--heuristic", "x"])
    assert "no heuristic 'x': use one of constraints" in str(unknown.exception)
