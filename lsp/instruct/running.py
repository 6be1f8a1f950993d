"""Runs a problem's solution, or tests, in the sandbox."""

import re
from dataclasses import dataclass
from functools import cache

from magicoder.errors import MagicoderError
from magicoder.languages import Language
from magicoder.lsp.instruct.problem import Written
from magicoder.lsp.instruct.testing import Job
from magicoder.sandbox import Limits, Sandbox
from magicoder.sandbox.bench import Bench, Verdict, environment, open_sandbox
from magicoder.sandbox.toolchains import TOOLCHAINS

_CAUSE = re.compile(r"^(?!FAILED \().*(rror|ssertion|panicked|not ok|no test was found)")
_NAME = re.compile(r"FAIL\S* .")
_NONE = re.compile(r"^(running 0 tests|testing: warning: no tests to run)$", re.MULTILINE)
"""What the harnesses of Rust and Go say where there is nothing to run, and call it a success."""

LIMITS = Limits(seconds=30.0, disk=256 << 20)


@dataclass(frozen=True)
class Outcome:
    """What came of a run; `says` is a line for the user, `output` what the programs printed."""

    passed: bool
    says: str
    output: str = ""


@cache
def sandbox() -> Sandbox:
    """One sandbox for all runs: to open it starts it once.

    Raises:
        MagicoderError: bubblewrap is missing or does not work.
    """
    return open_sandbox()


def verify(written: Written) -> Outcome:
    """Compile the solution of a problem, run it, and hold it against its own tests.

    Raises:
        MagicoderError: it has no code, its toolchain is missing, or the sandbox does not work.
    """
    found = written.code()
    if found is None:
        raise MagicoderError("the solution has no code block in a language that can be run")
    language, code = found
    bench = _bench(language)
    compiled = bench.compiles(language, code)
    if not compiled.passed:
        return Outcome(False, f"the solution does not compile: {_why(compiled)}")
    ran = bench.passes(language, code, "")
    if not ran.passed:
        return Outcome(False, f"the solution compiles, but does not run: {_why(ran)}")
    tests = written.test_code()
    if not tests.strip():
        return Outcome(True, "the solution compiles and runs; the problem has no # Tests to pass")
    tested = bench.passes(language, code, tests)
    if not tested.passed:
        return Outcome(False, f"the solution runs, but fails its tests: {_why(tested)}")
    return Outcome(True, "the solution compiles, runs and passes its tests")


def run(job: Job, language: Language) -> Outcome:
    """Run tests, which see the file that they test and no other.

    Raises:
        MagicoderError: the toolchain is missing, or the sandbox does not work.
    """
    _bench(language)
    env = environment(TOOLCHAINS[language.name])
    results = sandbox().run(job.commands, files=job.files, env=env, limits=LIMITS)
    last = results[-1]
    output = "".join(result.stdout + result.stderr for result in results).strip()
    if last.limit:
        return Outcome(False, f"the tests were ended by the limit of {last.limit}", output)
    if len(results) < len(job.commands):
        return Outcome(False, f"the tests do not compile: {_told(output, last.exit_code)}", output)
    if last.exit_code:
        return Outcome(False, f"the tests fail: {_told(output, last.exit_code)}", output)
    if _NONE.search(output):
        return Outcome(False, "the tests fail: no test was found", output)
    return Outcome(True, "the tests pass", output)


def _bench(language: Language) -> Bench:
    bench = Bench(sandbox(), LIMITS)
    if missing := bench.missing(language):
        if missing == language.name:
            raise MagicoderError(f"{language.name} cannot be run here: run it in a terminal")
        raise MagicoderError(f"{missing} is not installed: install it to run {language.name}")
    return bench


def _why(verdict: Verdict) -> str:
    if verdict.limit:
        return f"ended by the limit of {verdict.limit}"
    return verdict.why or "it ended before its end"


def _told(output: str, code: int | None) -> str:
    """The line that says most of a failure: the last with its cause, or with its name, or any."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for telling in (_CAUSE, _NAME):
        if found := [line for line in lines if telling.search(line)]:
            return found[-1][:200]
    return f"exit code {code}, last words: {lines[-1][:200]}" if lines else f"exit code {code}"
