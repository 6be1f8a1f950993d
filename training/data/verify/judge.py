"""Judges solutions by tests, and tests by mutated solutions."""

from collections.abc import Sequence

from magicoder import languages
from magicoder.languages import Language
from magicoder.sandbox import Limits, Sandbox
from magicoder.sandbox.bench import Bench
from magicoder.sandbox.toolchains import TOOLCHAINS
from magicoder.training.data.records import Verification
from magicoder.training.data.verify.mutate import mutants

MUTANTS = 6  # of a solution, at most, to show that tests can fail


def check(
    solution: str,
    language: Language,
    tests: Sequence[str],
    sandbox: Sandbox,
    limits: Limits | None = None,
) -> Verification:
    """Judge the code `solution` by `tests`, each some assertions that call it; asks no teacher.

    The tests are statements as `Toolchain.ask` says; difficulty is None, since there is no other
    attempt to compare with.
    """
    bench = Bench(sandbox, limits or Limits())
    judged = judge(bench, language, [solution], tests)
    return judged.model_copy(update={"difficulty": None})


def judge(
    bench: Bench, language: Language, attempts: Sequence[str], tests: Sequence[str]
) -> Verification:
    """The verification of the first of `attempts`; all of them tell how hard the problem is.

    A set that cannot be read is not used. One that is passed by an attempt counts only if it fails
    with a fault in that attempt; one that nobody passes counts as it stands.
    """
    solution = attempts[0]
    if not _sound(solution, language):
        return Verification(level="unparsed", note="syntax errors")
    if missing := bench.missing(language):
        return Verification(level="parsed", note=f"no toolchain: {missing}")
    verdicts = [
        bench.compiles(language, attempt) if _sound(attempt, language) else None
        for attempt in attempts
    ]
    readable = [text for text in dict.fromkeys(tests) if _readable(text, language)]
    runs = [  # a row an attempt, a column a set
        [
            bench.passes(language, attempt, text) if verdict and verdict.passed else None
            for text in readable
        ]
        for attempt, verdict in zip(attempts, verdicts, strict=True)
    ]
    passed = [[run is not None and run.passed for run in row] for row in runs]
    caught: list[bool | None] = []  # whether the sets that somebody passes catch a fault
    used = []
    for column, text in enumerate(readable):
        passer = next((a for a, row in zip(attempts, passed, strict=True) if row[column]), None)
        if passer is not None:
            caught.append(catches(bench, language, passer, text))
        if passer is None or caught[-1]:
            used.append(column)
    rate = sum(row[column] for row in passed for column in used)
    won = sum(passed[0][column] for column in used)
    own = verdicts[0]
    compiled = own is not None and own.passed
    limits = sum(run is not None and run.limit is not None for run in runs[0])
    notes = [
        "" if compiled or own is None else f"does not compile: {own.why.replace('; ', ', ')}",
        f"{len(tests) - len(readable)} of {len(tests)} test sets left out as unreadable or the same"
        if len(readable) < len(tests)
        else "",
        f"{len(readable) - len(used)} left out because they catch no fault"
        if len(used) < len(readable)
        else "",
        f"{limits} ended by a limit" if limits else "",
    ]
    known = [catch for catch in caught if catch is not None]
    return Verification(
        level="passed" if won else "compiled" if compiled else "parsed",
        passed=won,
        total=len(used),
        difficulty=round(1 - rate / (len(attempts) * len(used)), 4) if used else None,
        tests_can_fail=any(known) if known else None,
        note="; ".join(note for note in notes if note),
        tests=tuple(readable[column] for column in used),
    )


def catches(bench: Bench, language: Language, code: str, tests: str) -> bool | None:
    """Whether `tests`, which `code` passes, notice a fault in it; None: no fault built."""
    built = False
    whole = TOOLCHAINS[language.name].whole(code)
    for mutant in mutants(whole, language, MUTANTS):
        verdict = bench.passes(language, mutant, tests)
        if verdict.built and not verdict.passed:
            return True
        built = built or verdict.built
    return False if built else None


def _sound(code: str, language: Language) -> bool:
    toolchain = TOOLCHAINS.get(language.name)
    whole = toolchain.whole(code) if toolchain else code
    return bool(code.strip()) and not languages.syntax_errors(whole, language)


def _readable(tests: str, language: Language) -> bool:
    """The test program parses with these tests in it."""
    files = TOOLCHAINS[language.name].files("", tests)
    programs = [files[name] for name in TOOLCHAINS[language.name].test]
    return bool(tests.strip()) and not any(
        languages.syntax_errors(program, language) for program in programs
    )
