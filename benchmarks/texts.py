"""Real text and code that every machine has: the documented functions of what is installed."""

import ast
import random
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

from magicoder.training.data.records import Sample


def draw(count: int, seed: int = 976) -> list[Sample]:
    """`count` documented functions, each text once, at most 5 of a file; `seed` decides which.

    Out of the standard library and installed packages. The docstring is the problem, the function
    the solution: the paper's comment-function pairs.
    """
    folders = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
    files = sorted({path for folder in folders for path in folder.rglob("*.py")})
    chance = random.Random(seed)  # noqa: S311
    chance.shuffle(files)
    found: dict[str, Sample] = {}
    for path in files:
        samples = list(_functions(path))
        for sample in chance.sample(samples, min(5, len(samples))):
            found.setdefault(sample.solution, sample)
        if len(found) >= count:
            break
    return list(found.values())[:count]


def _functions(path: Path) -> Iterator[Sample]:
    try:
        text = path.read_text(encoding="utf-8")
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(text)
    except (UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
        return
    lines = text.splitlines(keepends=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (problem := ast.get_docstring(node)):
            code = textwrap.dedent("".join(lines[node.lineno - 1 : node.end_lineno]))
            if len(problem) >= 40 and 100 <= len(code) <= 4000:
                solution = f"```python\n{code.rstrip()}\n```"
                yield Sample(problem=problem, solution=solution, language="python")
