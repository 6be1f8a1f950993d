"""Tests by each language's convention, found again, and run in the sandbox."""

from collections.abc import Callable
from pathlib import Path

import pytest

from magicoder import languages
from magicoder.errors import MagicoderError
from magicoder.lsp.instruct import running, testing
from magicoder.lsp.instruct.problem import Made, Written
from magicoder.sandbox.toolchains import TOOLCHAINS

NAMES = {
    "a.py": "test_a.py",
    "a.js": "a.test.js",
    "a.ts": "a.test.ts",
    "a.tsx": "a.test.tsx",
    "A.java": "ATest.java",
    "a.cpp": "test_a.cpp",
    "a.c": "test_a.c",
    "A.cs": "ATests.cs",
    "a.rs": "a_test.rs",
    "A.php": "ATest.php",
    "A.swift": "ATests.swift",
    "a.sh": "test_a.sh",
    "a.go": "a_test.go",
    "a.rb": "test_a.rb",
    "A.kt": "ATest.kt",
}


def test_every_language_has_a_convention() -> None:
    assert set(testing.CONVENTIONS) == {language.name for language in languages.LANGUAGES}
    assert len(NAMES) == len(languages.LANGUAGES)


@pytest.mark.parametrize(("name", "test"), NAMES.items())
def test_tests_go_beside_and_take_no_name_that_is_taken(
    tmp_path: Path, name: str, test: str
) -> None:
    source, language = tmp_path / name, languages.by_path(name)
    assert language
    source.write_text("")
    first = testing.new_file(source, language)
    assert first == tmp_path / test
    assert testing.tested(first, language) == source
    assert testing.tested(source, language) is None
    first.write_text("")
    second = testing.new_file(source, language)
    assert second not in (first, source)
    assert testing.tested(second, language) == source
    assert "{" not in testing.form(source, second, language)


def test_a_numbered_source_is_found_before_a_numbered_test(tmp_path: Path) -> None:
    python = languages.by_name("python")
    assert python
    for name in ("a.py", "a_2.py"):
        (tmp_path / name).write_text("")
    assert testing.tested(tmp_path / "test_a_2.py", python) == tmp_path / "a_2.py"
    assert testing.tested(tmp_path / "test_b.py", python) is None


CASES = {
    "a.py": (
        "def twice(x):\n    return 2 * x\n",
        "import unittest\nfrom a import twice\n\n\ndef test_two():\n    assert twice(2) == 4\n\n\n"
        "class T(unittest.TestCase):\n    def test_it(self):\n"
        "        self.assertEqual(twice(1), 2)\n",
    ),
    "a.js": (
        "exports.twice = (x) => 2 * x;\n",
        'const test = require("node:test");\nconst assert = require("node:assert");\n'
        'const { twice } = require("./a.js");\ntest("two", () => assert.equal(twice(2), 4));\n',
    ),
    "a.ts": (
        "export const twice = (x: number) => 2 * x;\n",
        'import test from "node:test";\nimport assert from "node:assert";\n'
        'import { twice } from "./a";\ntest("two", () => assert.equal(twice(2), 4));\n',
    ),
    "a.c": (
        "int twice(int x) { return 2 * x; }\n",
        '#include "a.c"\n#include <assert.h>\nint main(void) { assert(twice(2) == 4); }\n',
    ),
    "a.cpp": (
        "int twice(int x) { return 2 * x; }\n",
        '#include "a.cpp"\n#include <cassert>\nint main() { assert(twice(2) == 4); }\n',
    ),
    "A.java": (
        "package b.c;\npublic class A {\n  static int twice(int x) { return 2 * x; }\n}\n",
        "package b.c;\npublic class ATest {\n  public static void main(String[] args) {\n"
        "    assert A.twice(2) == 4;\n  }\n}\n",
    ),
    "a.rs": (
        "pub fn twice(x: i32) -> i32 { 2 * x }\n",
        'include!("a.rs");\n#[test]\nfn two() { assert_eq!(twice(2), 4); }\n',
    ),
    "a.go": (
        "package b\n\nfunc Twice(x int) int { return 2 * x }\n",
        'package b\n\nimport "testing"\n\nfunc TestTwo(t *testing.T) {\n'
        '\tif Twice(2) != 4 {\n\t\tt.Error("two")\n\t}\n}\n',
    ),
    "A.php": (
        "<?php\nfunction twice($x) { return 2 * $x; }\n",
        "<?php\nrequire __DIR__ . '/A.php';\nassert(twice(2) === 4);\n",
    ),
    "a.sh": (
        "twice() { echo $((2 * $1)); }\n",
        'set -e\n. ./a.sh\n[ "$(twice 2)" = 4 ]\n',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_tests_pass_fail_and_do_not_compile(
    name: str, tmp_path: Path, needs: Callable[..., None]
) -> None:
    language = languages.by_path(name)
    assert language
    needs("bwrap", TOOLCHAINS[language.name].tool)
    source, tests = CASES[name]
    path = tmp_path / name
    test = testing.new_file(path, language)

    def outcome(source: str, tests: str) -> running.Outcome:
        return running.run(testing.job((test, tests), (path, source), language), language)

    passed = outcome(source, tests)
    assert passed == running.Outcome(True, "the tests pass", passed.output)
    failed = outcome(source.replace("2 *", "3 *"), tests)
    assert not failed.passed
    assert failed.says.startswith(("the tests fail: ", "the tests do not compile: ")), failed
    broken = outcome(source, tests + "\n)(\n")
    assert not broken.passed


@pytest.mark.parametrize(
    ("name", "source", "tests", "says"),
    [
        ("a.py", "", "x = 1\n", "no test was found"),
        ("a.py", "", "def test_a(): x\n", "NameError: name 'x' is not defined"),
        ("a.py", "", "import sys\nprint('OK')\nsys.exit()\n", "error: the file ends while"),
        ("a.go", "package b\n", "package b\n", "no test was found"),
        ("a.sh", "", "echo OK\nexit 3\n", "exit code 3, last words: OK"),
        ("a.sh", "", "exit 3\n", "exit code 3"),
    ],
)
def test_a_failure_is_not_told_as_a_success(
    name: str, source: str, tests: str, says: str, tmp_path: Path, needs: Callable[..., None]
) -> None:
    language = languages.by_path(name)
    assert language
    needs("bwrap", TOOLCHAINS[language.name].tool)
    path = tmp_path / name
    job = testing.job((testing.new_file(path, language), tests), (path, source), language)
    found = running.run(job, language)
    assert not found.passed
    assert found.says.startswith(f"the tests fail: {says}"), found


def test_what_cannot_be_run_is_told(tmp_path: Path) -> None:
    kotlin = languages.by_name("kotlin")
    assert kotlin
    with pytest.raises(MagicoderError, match="tests in kotlin cannot be run here"):
        testing.job((tmp_path / "ATest.kt", ""), (tmp_path / "A.kt", ""), kotlin)


MADE = Made(seed=None, teacher="m", style="editor")


@pytest.mark.parametrize(
    ("solution", "tests", "passed", "says"),
    [
        ("a = 1", "", True, "compiles and runs; the problem has no # Tests"),
        ("a = 1", "assert a == 1", True, "compiles, runs and passes its tests"),
        ("a = 1", "assert a == 2", False, "runs, but fails its tests: AssertionError"),
        ("a = ", "", False, "does not compile: SyntaxError"),
        ("a = b", "", False, "does not run: NameError"),
        ("import sys\nsys.exit()", "", False, "does not run: it ended before its end"),
        ("while True: pass", "", False, "does not run: ended by the limit of time"),
    ],
)
def test_a_solution_is_verified(
    solution: str,
    tests: str,
    passed: bool,
    says: str,
    needs: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs("bwrap")
    monkeypatch.setattr(running, "LIMITS", running.Limits(seconds=2))
    written = Written(MADE, "p", f"```python\n{solution}\n```", tests)
    found = running.verify(written)
    assert (found.passed, says in found.says) == (passed, True), found


def test_a_solution_that_cannot_be_run_is_told() -> None:
    with pytest.raises(MagicoderError, match="no code block"):
        running.verify(Written(MADE, "p", "words"))
    with pytest.raises(MagicoderError, match="ruby cannot be run here"):
        running.verify(Written(MADE, "p", "```ruby\na = 1\n```"))
