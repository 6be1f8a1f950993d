"""Verification: real compilers and interpreters in the real sandbox; the teacher is a fault server.

The code here is written so that a person sees what must come out.
"""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from magicoder import languages
from magicoder.cli import cli
from magicoder.sandbox import Limits, Sandbox
from magicoder.sandbox.bench import Bench, open_sandbox
from magicoder.sandbox.toolchains import TOOLCHAINS
from magicoder.training.data import runner
from magicoder.training.data.records import Sample, Verification
from magicoder.training.data.store import Store
from magicoder.training.data.teacher import Teacher
from magicoder.training.data.verify import Verify, check, in_order, step
from magicoder.training.data.verify.judge import judge
from magicoder.training.data.verify.mutate import mutants
from magicoder.training.data.verify.outline import signatures
from magicoder.training.data.verify.questions import Asked, questions


@dataclass(frozen=True)
class Case:
    """A language's solution that doubles; `right` and `wrong` are tests, `vacuous` is none.

    `leaves` is a solution that ends the program before any test, `broken` one that parses only.
    """

    solution: str
    right: str
    wrong: str
    vacuous: str
    leaves: str
    broken: str


JS = Case(
    "function twice(x) { return x * 2; }\nmodule.exports = { twice };\n",
    "assert.deepStrictEqual(twice(2), 4);",
    "assert.deepStrictEqual(twice(2), 5);",
    "twice(2);",
    "function twice(x) { process.exit(0); }\n",
    "const a = 1;\nconst a = 2;\nfunction twice(x) { return x * 2; }\n",
)
C = Case(
    '#include <stdio.h>\nint twice(int x) { return x * 2; }\nint main(void) { puts("hello"); }\n',
    "#include <limits.h>\nint four = 4;\nassert(twice(2) == four);",
    "assert(twice(2) == 5);",
    "twice(2);",
    "#include <stdlib.h>\nint twice(int x) { exit(0); }\n",
    "int twice(int x) { return y * 2; }\n",
)
CASES = {
    "python": Case(
        "def twice(x):\n    return x * 2\n\nif __name__ == '__main__':\n    print(input())\n",
        "assert twice(2) == 4\nassert twice(0) == 0",
        "def test_twice():\n    assert twice(2) == 5",
        "twice(2)",
        "import sys\ndef twice(x):\n    sys.exit(0)\n",
        "def twice(x):\n    return x * 2\nreturn 1\n",
    ),
    "javascript": JS,
    "typescript": Case(
        "export class Node { constructor(public x: number) {} }\n"
        "function twice(x: number): number { return x * 2; }\n",
        "assert.deepStrictEqual(twice(new Node(2).x), 4);",
        JS.wrong,
        JS.vacuous,
        "function twice(x: number): number { process.exit(0); return 1; }\n",
        'function twice(x: number): number { return "2" * x; }\n',
    ),
    "c": C,
    "cpp": Case(
        "#include <iostream>\nint twice(int x) { return x * 2; }\nint main() { std::cout << 1; }\n",
        "std::vector<int> all{2};\nassert(twice(all[0]) == 4);",
        C.wrong,
        C.vacuous,
        C.leaves,
        C.broken,
    ),
    "java": Case(
        "package a.b;\n\npublic class Twice {\n    static int twice(int x) { return x * 2; }\n}\n",
        "import java.time.Duration;\nassert Twice.twice(List.of(2).get(0)) == 4;",
        "assert Twice.twice(2) == 5;",
        "Twice.twice(2);",
        "class Twice {\n    static int twice(int x) { System.exit(0); return 1; }\n}\n",
        'class Twice {\n    static int twice(int x) { return "2"; }\n}\n',
    ),
    "rust": Case(
        "fn twice(x: i32) -> i32 { x * 2 }\n\nfn main() { println!(); }\n",
        "assert_eq!(twice(2), 4);",
        "assert_eq!(twice(2), 5);",
        "twice(2);",
        "fn twice(x: i32) -> i32 { std::process::exit(0) }\n",
        'fn twice(x: i32) -> i32 { "2" }\n',
    ),
    "php": Case(
        "namespace A;\nfunction twice(int $x): int { return $x * 2; }\n",
        "<?php\nassert(twice(2) === 4);",
        "assert(twice(2) === 5);",
        "twice(2);",
        "<?php\nfunction twice(int $x): int { exit(0); }\n",
        "<?php\nfunction twice($x) { return $x * 2; }\nfunction twice($x) { return 1; }\n",
    ),
    "shell": Case(
        "twice() {\n  echo $(( $1 * 2 ))\n}\n",
        '[ "$(twice 2)" = 4 ] || exit 1',
        '[ "$(twice 2)" = 5 ]',
        "twice 2",
        "twice() { :; }\nexit 0\n",
        "",  # what parses here, bash reads as well
    ),
    "go": Case(
        'package p\n\nimport "fmt"\n\nfunc twice(x int) int { return x * 2 }\n\n'
        "func main() { fmt.Println(twice(1)) }\n",
        'import "os"\nif twice(2) != 4 { os.Exit(1) }',
        'if twice(2) != 5 { panic("twice(2)") }',
        "twice(2)",
        'package main\n\nimport "os"\n\nfunc twice(x int) int { os.Exit(0); return 1 }\n',
        'package main\n\nfunc twice(x int) int { return "2" }\n',
    ),
}
every_language = pytest.mark.parametrize("name", CASES)
SLOW = {"cpp", "go", "java", "rust", "typescript"}  # compilers that take most of a second
in_every_language = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES]
)


@pytest.fixture
def sandbox(needs: Callable[..., None]) -> Sandbox:
    needs("bwrap", "python3")
    return open_sandbox()


@pytest.fixture
def judged(sandbox: Sandbox, needs: Callable[..., None]) -> Callable[..., Verification]:
    """`check` in a language by its name, in the sandbox, if its toolchain is installed."""

    def run(name: str, solution: str, *tests: str, limits: Limits | None = None) -> Verification:
        needs(TOOLCHAINS[name].tool)
        return check(solution, languages.by_name(name), tests, sandbox, limits)

    return run


@in_every_language
def test_a_right_solution_passes_the_right_tests_alone(judged, name: str) -> None:
    case = CASES[name]
    found = judged(name, case.solution, case.right, case.wrong)
    assert found == Verification(
        level="passed", passed=1, total=2, tests_can_fail=True, tests=(case.right, case.wrong)
    )


@in_every_language
def test_tests_that_notice_no_fault_prove_nothing(judged, name: str) -> None:
    found = judged(name, CASES[name].solution, CASES[name].vacuous)
    assert (found.level, found.passed, found.total) == ("compiled", 0, 0)
    assert found.tests_can_fail is False
    assert found.tests == ()
    assert "catch no fault" in found.note


@in_every_language
def test_a_solution_that_ends_the_program_passes_nothing(judged, name: str) -> None:
    found = judged(name, CASES[name].leaves, CASES[name].right)
    assert (found.level, found.passed, found.total) == ("compiled", 0, 1)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].broken])
def test_what_parses_but_does_not_compile(judged, name: str) -> None:
    found = judged(name, CASES[name].broken, CASES[name].right)
    assert (found.level, found.passed, found.total) == ("parsed", 0, 1)
    assert found.note.startswith("does not compile: ")
    assert len(found.note) > len("does not compile: ")


@every_language
def test_syntax_errors_are_found_without_a_toolchain(sandbox: Sandbox, name: str) -> None:
    found = check(")" + CASES[name].solution, languages.by_name(name), [], sandbox)
    assert found == Verification(level="unparsed", note="syntax errors")


def test_tests_that_cannot_be_read_are_not_used(judged) -> None:
    case = CASES["python"]
    found = judged("python", case.solution, "Here are the tests:", case.right, case.right, "")
    assert (found.passed, found.total, found.tests) == (1, 1, (case.right,))
    assert found.note == "3 of 4 test sets left out as unreadable or the same"


def test_a_solution_without_an_end_runs_into_the_limit(judged) -> None:
    endless = "def twice(x):\n    while True:\n        x = 1\n"
    found = judged("python", endless, CASES["python"].right, limits=Limits(seconds=1))
    assert (found.level, found.passed, found.total) == ("compiled", 0, 1)
    assert found.note == "1 ended by a limit"


def test_a_missing_toolchain_is_named(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    ruby = check("puts 1\n", languages.by_name("ruby"), ["x"], sandbox)
    assert ruby == Verification(level="parsed", note="no toolchain: ruby")
    gone = replace(TOOLCHAINS["go"], tool="gone", version=("gone", "version"))
    monkeypatch.setitem(TOOLCHAINS, "go", gone)
    found = check(CASES["go"].solution, languages.by_name("go"), ["x"], sandbox)
    assert found == Verification(level="parsed", note="no toolchain: gone")


@pytest.mark.slow
def test_all_attempts_tell_how_hard_a_problem_is(sandbox: Sandbox) -> None:
    python = languages.by_name("python")
    right, wrong = "def f(x):\n    return x + 1\n", "def f(x):\n    return x\n"
    tests = ["assert f(1) == 2", "assert f(5) == 6"]
    bench = Bench(sandbox, Limits())
    assert judge(bench, python, [right, wrong], tests).difficulty == 0.5
    assert judge(bench, python, [right, right, wrong, "def f("], tests).difficulty == 0.5
    assert judge(bench, python, [wrong, right], tests).passed == 0
    assert judge(bench, python, [wrong, wrong], tests).difficulty == 1.0
    assert judge(bench, python, [right, right], tests).difficulty == 0.0
    assert judge(bench, python, [right], []).difficulty is None
    # Nobody passes it, so that nothing says it cannot fail; f(1) alone cannot.
    mixed = judge(bench, python, [right, right], ["assert f(1) == 3", "f(1)"])
    assert (mixed.passed, mixed.total, mixed.difficulty) == (0, 1, 1.0)
    assert mixed.tests_can_fail is False


@every_language
def test_a_test_program_parses_and_its_example_has_the_asked_form(name: str) -> None:
    toolchain, language = TOOLCHAINS[name], languages.by_name(name)
    example = toolchain.ask.partition("such as: ")[2]
    assert re.fullmatch(toolchain.line, example)
    files = toolchain.files(CASES[name].solution, example)
    assert toolchain.test.keys() <= files.keys()
    assert not any(languages.syntax_errors(files[file], language) for file in toolchain.test)


@every_language
def test_the_form_that_a_weak_teacher_is_held_to_is_one_that_xgrammar_reads(name: str) -> None:
    xgrammar = pytest.importorskip("xgrammar")
    sample = Sample(problem="p", solution="s", language=name)
    asked = Asked(number=0, sample=sample, role="none")
    for question in questions(asked, languages.by_name(name), ["twice"], 2):
        xgrammar.Grammar.from_regex(question.extra["structured_outputs"]["regex"])


SECRET = "7321"
OUTLINES = {
    "python": (
        "class A(B):\n    def __init__(self, x: int = 1):\n        self.x = 7321\n\n"
        "@cache\ndef f(a, *, b):\n    return a + 7321\n\ndef main():\n    f(7321)\n",
        "class A(B)\n    def __init__(self, x: int = 1)\ndef f(a, *, b)",
    ),
    "javascript": (
        "export const f = (a) => a + 7321;\nfunction g(b) { return 7321; }\n"
        "class A { get c() { return 7321; } }\n[1].map((x) => x + 7321);\n",
        "f = (a)\nfunction g(b)\nclass A\n    get c()",
    ),
    "typescript": (
        "interface P { x: number }\nfunction f<T>(a: T[]): T { return a[7321]; }\n",
        "interface P { x: number }\nfunction f<T>(a: T[]): T",
    ),
    "c": (
        "struct P { int x; };\nstatic int *f(struct P *p) { p->x = 7321; return 0; }\n"
        "int main(void) { return 7321; }\n",
        "struct P\n    int x;\nstatic int *f(struct P *p)",
    ),
    "cpp": (
        "namespace n {\ntemplate <class T> T f(T a) { return a + 7321; }\n}\n"
        "class A { public: A(int x) : x_(7321) {} int g() const { return 7321; } };\n",
        "namespace n\n    template <class T> T f(T a)\nclass A\n    A(int x)\n    int g() const",
    ),
    "java": (
        "public class A<T> { A(int x) { this.x = 7321; } int f() throws E { return 7321; } "
        "public static void main(String[] a) { f(7321); } }\nrecord P(int a) {}\n",
        "public class A<T>\n    A(int x)\n    int f() throws E\nrecord P(int a)",
    ),
    "rust": (
        "struct P { x: i32 }\nimpl P { fn new() -> Self { P { x: 7321 } } }\n"
        "fn f<T>(a: T) -> i32 where T: Ord { 7321 }\nfn main() {}\n",
        "struct P { x: i32 }\nimpl P\n    fn new() -> Self\nfn f<T>(a: T) -> i32 where T: Ord",
    ),
    "php": (
        "<?php\nfunction f(int $a): int { return 7321; }\n"
        "class A { public function g() { return 7321; } }\n",
        "function f(int $a): int\nclass A\n    public function g()",
    ),
    "shell": ("f() {\n  echo 7321\n}\necho 7321\n", "f()"),
    "go": (
        "package main\n\ntype P struct{ X int }\n\nfunc (p *P) Get() int { return 7321 }\n\n"
        "func F(a, b int) (int, error) { return 7321, nil }\n\nfunc main() { F(7321, 1) }\n",
        "type P struct{ X int }\nfunc (p *P) Get() int\nfunc F(a, b int) (int, error)",
    ),
}


@every_language
def test_the_teacher_sees_heads_and_no_bodies(name: str) -> None:
    code, heads = OUTLINES[name]
    assert SECRET in code
    assert "\n".join(signatures(code, languages.by_name(name))) == heads


def test_code_that_defines_nothing_to_call_has_no_signatures() -> None:
    assert signatures("print(1)\n", languages.by_name("python")) == []
    assert signatures("struct P { int x; };\n", languages.by_name("c")) == []


def test_mutants_are_those_that_a_person_would_write() -> None:
    code = "def f(a, b):\n    if a < b:\n        log(a)\n    return a + 1\n\nx = 1 + 2\n"
    found = mutants(code, languages.by_name("python"), 9)
    assert set(found) == {
        code.replace("return a + 1", "return None"),
        code.replace("a < b", "a >= b"),
        code.replace("a + 1", "a - 1"),
        code.replace("a + 1", "a + 2"),
        code.replace("log(a)", "pass"),
    }
    assert len(found) == 5
    assert mutants(code, languages.by_name("python"), 2) == found[:2]


@every_language
def test_every_language_can_be_mutated(name: str) -> None:
    language = languages.by_name(name)
    whole = TOOLCHAINS[name].whole(CASES[name].solution)
    found = mutants(whole, language, 9)
    assert found
    assert whole not in found
    assert not any(languages.syntax_errors(mutant, language) for mutant in found)


def test_results_come_in_order_and_little_waits() -> None:
    taken = 0
    gate = threading.Event()

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    def work(item: int) -> int:
        if item == 1:
            gate.wait(10)
        elif item == 3:  # item 1 is still under way
            gate.set()
        return item * item

    closed: list[bool] = []
    results = in_order(work, items(), 3, lambda: closed.append(True))
    assert next(results) == 1
    assert taken == 6
    assert list(results) == [item * item for item in range(2, 101)]
    assert closed == [True]


def test_an_interrupted_run_starts_no_further_sandbox(
    runs: list[dict[str, str]], sandbox: Sandbox
) -> None:
    bench = Bench(sandbox, Limits())
    python = languages.by_name("python")
    assert bench.compiles(python, "a = 1\n").passed
    bench.close()
    with pytest.raises(CancelledError):
        bench.compiles(python, "a = 1\n")
    assert len(runs) == 1


# The step: problems to triple a number, each with the test sets and attempts that a teacher gives.

PROBLEM = "Write a function in Python that gives three times a number. Number {}."
SOLUTION = "Here it is:\n```python\ndef triple(x):\n    return x * 3\n```\nDone."
WRONG = "```python\ndef triple(x):\n    return x + 3\n```"


def sample(number: int, solution: str = SOLUTION, **fields: Any) -> Sample:
    problem = PROBLEM.format(number)
    return Sample(problem=problem, solution=solution, **{"language": "python", **fields})


def answers(body: dict[str, Any]) -> str:
    """What a fair teacher says: tests with differing numbers, and a wrong attempt each time."""
    seed = body["seed"]
    if "test" in body["messages"][0]["content"].partition(".")[0]:
        return f"```python\nassert triple({seed}) == {3 * seed}\n```"
    return WRONG


@pytest.fixture
def teacher(faulty_server):
    """Start a teacher that answers with `say(body)`; a status instead of a text is an error."""

    def start(say: Callable[[dict[str, Any]], str | int] = answers, **config: Any) -> Any:
        def answer(handler: Any, body: dict[str, Any]) -> None:
            said = say(body)
            if isinstance(said, int):
                reply: dict[str, Any] = {"error": {"message": "no"}}
            else:
                message = {"role": "assistant", "content": said}
                reply = {"choices": [{"message": message, "finish_reason": "stop"}]}
            text = json.dumps(reply).encode()
            handler.send_response(said if isinstance(said, int) else 200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(text)))
            handler.end_headers()
            handler.wfile.write(text)

        server = faulty_server(answer)
        values = {"base_url": server.base_url, "model": "m", "retries": 0, "in_flight": 4}
        server.teacher = Teacher(**{**values, **config})
        return server

    return start


@pytest.fixture
def verify(tmp_path: Path, needs: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    """Run the step over samples with a server's teacher; gives what came out, and the funnel."""
    needs("bwrap", "python3")

    def run(server: Any, rows: list[Sample], name: str = "out.jsonl", **config: Any) -> Any:
        source = tmp_path / "samples.jsonl"
        source.write_text("".join(row.model_dump_json() + "\n" for row in rows))
        store = Store(tmp_path / "answers.sqlite")
        try:
            made = step(Verify(**config), source=source, teacher=server.teacher, store=store)
            funnel = runner.run(made, tmp_path / name)
        finally:
            store.close()
        lines = (tmp_path / name).read_text().splitlines()
        return [Sample.model_validate_json(line) for line in lines], funnel

    return run


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The files of each run of a sandbox that was given any."""
    seen: list[dict[str, str]] = []
    real = Sandbox.run

    def counted(self: Sandbox, *args: Any, **values: Any) -> Any:
        if values["files"]:
            seen.append(values["files"])
        return real(self, *args, **values)

    monkeypatch.setattr(Sandbox, "run", counted)
    return seen


def test_every_sample_stays_and_says_how_far_it_came(teacher, verify) -> None:
    samples = [
        sample(0),
        sample(1, WRONG),
        sample(2, "No code."),
        sample(3, "```python\ndef triple(x:\n```"),
        sample(4, "```ruby\nputs 1\n```", language="ruby"),
        sample(5, "```python\nprint(3)\n```"),
        sample(6, "```python\ndef triple(x):\n    return x * 3\nreturn\n```"),
    ]
    server = teacher()
    found, funnel = verify(server, samples)
    assert [each.model_copy(update={"verification": None}) for each in found] == samples
    told = [each.verification for each in found]
    levels = ["passed", "compiled", "unparsed", "unparsed", "parsed", "compiled", "parsed"]
    assert [each.level for each in told] == levels
    assert [(each.passed, each.total) for each in told[:2]] == [(3, 3), (0, 3)]
    # One of three attempts triples; of the second sample none does.
    assert [each.difficulty for each in told] == [0.6667, 1.0, None, None, None, None, 1.0]
    assert [each.tests_can_fail for each in told[:3]] == [True, None, None]
    assert told[0].tests == tuple(f"assert triple({n}) == {3 * n}\n" for n in (976, 977, 978))
    assert [each.note for each in told[2:6]] == [
        "no code block",
        "syntax errors",
        "no toolchain: ruby",
        "",
    ]
    assert told[6].note.startswith("does not compile: ")
    assert funnel.account["languages"] == {
        "python": {"compiled": 2, "parsed": 1, "passed": 1, "unparsed": 2},
        "ruby": {"no toolchain: ruby": 1, "parsed": 1},
    }
    # Three sets and two attempts for each that defines something to call, and for no other.
    assert len(server.requests) == funnel.account["teacher"]["requests"] == 3 * 5


def test_the_teacher_sees_no_body_and_is_asked_in_a_form(teacher, verify) -> None:
    server = teacher(structured="always")
    verify(server, [sample(0, "```python\ndef triple(x):\n    return x * 3 + 7321 - 7321\n```")])
    assert len(server.requests) == 5
    for _, body in server.requests:
        asked = body["messages"][0]["content"]
        assert PROBLEM.format(0) in asked
        assert "def triple(x)" in asked
        assert SECRET not in asked
        assert body["temperature"] == 0.8  # the teacher's is 0, which gives k times the same
        # A teacher that answers as it is asked to is let through
        form = body["structured_outputs"]["regex"]
        tests = "```python\n" + "assert triple(1) == 3\n" * 3 + "```"
        attempt = "```python\ndef triple(x):\n    return x * 3\n```"
        assert re.fullmatch(form, tests)
        # One that defines the solution anew only as an attempt at it
        assert bool(re.fullmatch(form, attempt)) == ("You write tests" not in asked)
    assert len({json.dumps(body, sort_keys=True) for _, body in server.requests}) == 5


def test_a_sample_that_brings_tests_is_asked_one_set_less(teacher, verify) -> None:
    server = teacher()
    own = "```python\nassert triple(-1) == -3\n```"
    [found], _ = verify(server, [sample(0, tests=own)], samples=2)
    assert found.verification.tests == ("assert triple(-1) == -3\n", "assert triple(976) == 2928\n")
    assert found.verification.passed == 2
    assert len(server.requests) == 2


@pytest.mark.slow
def test_nothing_is_asked_or_run_twice(teacher, verify, runs, tmp_path: Path) -> None:
    server = teacher()
    samples = [sample(0), sample(1, WRONG)]
    verify(server, samples)
    asked, ran = len(server.requests), len(runs)
    assert asked == 10
    assert ran
    assert len({json.dumps(files, sort_keys=True) for files in runs}) == ran
    verify(server, samples, "again.jsonl", workers=1)
    assert (len(server.requests), len(runs)) == (asked, ran)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()
    # Other limits are another verdict.
    verify(server, samples[:1], "longer.jsonl", seconds=20)
    assert len(server.requests) == asked
    assert len(runs) > ran


def test_a_verdict_on_a_timeout_is_kept_too(teacher, verify, runs) -> None:
    server = teacher()
    endless = sample(0, "```python\ndef triple(x):\n    while True:\n        x = 3\n```")
    [found], _ = verify(server, [endless], samples=1, seconds=1)
    assert found.verification.note == "1 ended by a limit"
    ran = len(runs)
    assert verify(server, [endless], "again.jsonl", samples=1, seconds=1)[0] == [found]
    assert len(runs) == ran


def test_a_failing_teacher_costs_no_sample(teacher, verify) -> None:
    def say(body: dict[str, Any]) -> str | int:
        number = body["messages"][0]["content"].partition("Number ")[2][0]
        if number == "1":
            return 400
        return "I cannot." if number == "2" and body["seed"] == 976 else answers(body)

    found, funnel = verify(teacher(say), [sample(number) for number in range(4)], samples=2)
    told = [each.verification for each in found]
    assert [(each.level, each.passed, each.total) for each in told] == [
        ("passed", 2, 2),
        ("compiled", 0, 0),
        ("passed", 1, 1),
        ("passed", 2, 2),
    ]
    assert told[1].note == "3 of 3 answers did not come"
    assert told[2].note == "1 of 2 test sets left out as unreadable or the same"
    assert funnel.account["teacher"]["failures"] == {"HTTP 400": 3}
    assert not funnel.stages[-1].rejected


def test_the_command(teacher, tmp_path: Path, needs: Callable[..., None]) -> None:
    from click.testing import CliRunner

    needs("bwrap", "python3")
    server = teacher()
    source, output = tmp_path / "generate.jsonl", tmp_path / "verify.jsonl"
    source.write_text(sample(0).model_dump_json() + "\n")
    options = ["--base-url", server.base_url, "--model", "m", "--samples", "1"]
    command = ["data", "verify", str(source), "-o", str(output), *options]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout == f"{output}\n"
    assert Sample.model_validate_json(output.read_text()).verification.passed == 1
    assert (tmp_path / "answers.sqlite").is_file()
    funnel = json.loads((tmp_path / "verify.funnel.json").read_text())
    assert funnel["account"]["languages"] == {"python": {"passed": 1}}


def test_without_isolation_only_where_the_user_says_so(
    teacher, verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    from magicoder.errors import MagicoderError

    real = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, *rest: None if name == "bwrap" else real(name, *rest)
    )
    server = teacher()
    with pytest.raises(MagicoderError, match="--sandbox none"):
        verify(server, [sample(0)])
    [found], _ = verify(server, [sample(0)], samples=1, sandbox="none")
    assert found.verification.passed == 1
