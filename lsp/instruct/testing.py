"""Tests beside the code, by each language's convention, and how the sandbox runs them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magicoder.errors import MagicoderError
from magicoder.languages import Language
from magicoder.sandbox.toolchains import JAVAC, JVM, NODE, RUSTC, TOOLCHAINS, TSC, Commands


@dataclass(frozen=True)
class Convention:
    """A language's tests. `{file}` and `{stem}` are the tested file's name, `{test}` and `{module}`
    the test file's, each whole and without its extension.

    name: the test file's stem. form: sentences for a prompt that say what it looks like.
    run: what builds and runs it in the sandbox; none: it cannot be run here.
    dropped: what is taken out of both files to run them, as a regular expression.
    """

    name: str
    form: str
    run: Commands = ()
    dropped: str = r"(?!)"


_ASSERTS = "Make it a program that exits with an error when an assertion fails."
_PYTHON = """import importlib, sys, unittest
sys.path.insert(0, ".")
try:
    module = importlib.import_module(sys.argv[1])
except SystemExit:
    sys.exit("error: the file ends while it is imported: take unittest.main() or sys.exit() out")
suite = unittest.defaultTestLoader.loadTestsFromModule(module)
for name, test in vars(module).items():
    if name.startswith("test") and callable(test):
        suite.addTest(unittest.FunctionTestCase(test, description=name))
result = unittest.TextTestRunner().run(suite)
sys.exit(not result.wasSuccessful() if result.testsRun else "no test was found")
"""
_IMPORT = "Import node:test and node:assert, and what you test from './{stem}{extension}'."

CONVENTIONS = {
    "python": Convention(
        "test_{stem}",
        "Write functions named test_... with plain assert; `from {stem} import` what you test.",
        (("python3", "-c", _PYTHON, "{module}"),),
    ),
    "javascript": Convention(
        "{stem}.test",
        _IMPORT,
        ((*NODE, "{test}"),),
    ),
    "typescript": Convention(
        "{stem}.test",
        _IMPORT.replace("{extension}", ""),
        ((*TSC, "node.d.ts", "{test}"), ("node", "{module}.js")),
    ),
    "tsx": Convention("{stem}.test", _IMPORT.replace("{extension}", "")),
    "c": Convention(
        "test_{stem}",
        f'Write #include "{{file}}" and assert.h. {_ASSERTS}',
        (("gcc", "-std=gnu17", "-w", "{test}", "-o", "check", "-lm"), ("./check",)),
    ),
    "cpp": Convention(
        "test_{stem}",
        f'Write #include "{{file}}" and <cassert>. {_ASSERTS}',
        (("g++", "-std=gnu++20", "-w", "{test}", "-o", "check"), ("./check",)),
    ),
    "java": Convention(
        "{stem}Test",
        "Write a class {module} whose main method tests with the assert statement; no JUnit.",
        ((*JAVAC, "{file}", "{test}"), ("java", *JVM, "-ea", "-cp", "out", "{module}")),
        r"^[ \t]*package [\w.]+;",
    ),
    "rust": Convention(
        "{stem}_test",
        'Begin with include!("{file}"); and write #[test] functions.',
        ((*RUSTC, "--test", "{test}", "-o", "check"), ("./check",)),
    ),
    "go": Convention(
        "{stem}_test",
        "Write func Test...(t *testing.T) in the package of the code.",
        TOOLCHAINS["go"].run,
    ),
    "php": Convention(
        "{stem}Test",
        "Begin with require __DIR__ . '/{file}'; and test with assert(); no PHPUnit.",
        (("php", "-d", "zend.assertions=1", "-d", "assert.exception=1", "{test}"),),
    ),
    "shell": Convention(
        "test_{stem}",
        "Begin with set -e and . ./{file} and exit with 1 where a result is wrong.",
        (("bash", "{test}"),),
    ),
    "ruby": Convention("test_{stem}", "Use minitest, and require_relative '{stem}'."),
    "csharp": Convention("{stem}Tests", "Use xUnit."),
    "kotlin": Convention("{stem}Test", "Use kotlin.test."),
    "swift": Convention("{stem}Tests", "Use XCTest."),
}


def form(path: Path, test: Path, language: Language) -> str:
    """What the tests at `test` of the file at `path` look like, in words for a prompt."""
    names = {"stem": path.stem, "file": path.name, "extension": path.suffix, "module": test.stem}
    return _filled(CONVENTIONS[language.name].form, **names)


def new_file(path: Path, language: Language) -> Path:
    """Where new tests of the file at `path` go: a name that is not taken."""
    stem = CONVENTIONS[language.name].name.replace("{stem}", path.stem)
    found, number = path.with_name(stem + path.suffix), 2
    while found.exists():
        # Go's tools know a test by the end of its name, others by its beginning.
        numbered = CONVENTIONS[language.name].name.replace("{stem}", f"{path.stem}_{number}")
        found, number = path.with_name(numbered + path.suffix), number + 1
    return found


def tested(path: Path, language: Language) -> Path | None:
    """The file beside `path` whose tests those at `path` are, told by their names."""
    convention = CONVENTIONS.get(language.name)
    if convention is None:
        return None
    before, _, after = convention.name.partition("{stem}")
    found = re.fullmatch(f"{re.escape(before)}(.+?){re.escape(after)}", path.stem)
    if found is None:
        return None
    stems = dict.fromkeys((found[1], re.sub(r"_\d+$", "", found[1])))
    files = (path.with_name(stem + path.suffix) for stem in stems)
    return next((file for file in files if file.is_file() and file != path), None)


@dataclass(frozen=True)
class Job:
    """What the sandbox is given: files by name, and the commands that build and run them."""

    files: Mapping[str, str]
    commands: Commands


def job(test: tuple[Path, str], source: tuple[Path, str], language: Language) -> Job:
    """What runs the tests `test` of the code `source`, each a path and its text.

    Raises:
        MagicoderError: tests in this language cannot be run here.
    """
    convention = CONVENTIONS.get(language.name)
    if convention is None or not convention.run:
        raise MagicoderError(f"tests in {language.name} cannot be run here: run them in a terminal")
    files = dict(TOOLCHAINS[language.name].extra)
    for path, text in (source, test):
        files[path.name] = re.sub(convention.dropped, "", text, flags=re.MULTILINE)
    names = {"test": test[0].name, "module": test[0].stem, "file": source[0].name}
    commands = tuple(
        tuple(_filled(word, **names) for word in command) for command in convention.run
    )
    return Job(files, commands)


def _filled(text: str, **values: str) -> str:
    """Only these placeholders: code is full of braces."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
