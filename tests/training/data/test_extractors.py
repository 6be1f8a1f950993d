"""Seeds against the documents that they were taken from."""

from pathlib import Path

import pytest

from magicoder import languages
from magicoder.training.data.extractors import EXTRACTORS, Bounds, paper, syntax
from magicoder.training.data.records import Document, Rejected, Seed

SAMPLES = Path(__file__).parents[2] / "data" / "sources"

MATH, JOIN = "import math", 'import { join } from "node:path";'
# Of each sample: the first lines of its nodes by kind, and what comes with each function or method
NODES = {
    "python": {
        ("function", "def area(radius):", MATH),
        ("class", "class Circle:", ""),
        ("method", "def __init__(self, radius):", ""),
        ("call", "print(", ""),
    },
    "java": {
        ("method", "int sum(List<Integer> numbers) {", "import java.util.List;"),
        ("class", "class Sample {", "import java.util.List;"),
        ("call", "String name = String.join(", ""),
    },
    "javascript": {
        ("function", "export function place(name) {", JOIN),
        ("function", "const load = (name) => {", ""),
        ("method", "add(book) {", ""),
        ("class", "class Shelf {", ""),
        ("call", "place(", ""),
    },
    "typescript": {
        ("function", "export function place(name: string): string {", JOIN),
        ("class", "interface Shelf {", ""),
        ("call", "const found = place(", ""),
    },
    "tsx": {
        (
            "function",
            "export function Counter(props: { start: number }) {",
            'import { useState } from "react";',
        ),
        ("call", "mount(", ""),
    },
    "cpp": {
        ("function", "template <typename T>", "#include <vector>"),
        ("class", "struct Point {", "#include <vector>"),
        ("call", "auto all = sum(", "#include <vector>"),
    },
    "c": {
        ("function", "int larger(int a, int b) {", "#include <stdio.h>"),
        ("class", "struct point {", "#include <stdio.h>"),
    },
    "csharp": {
        ("method", "int Larger(int a, int b)", "using System;"),
        ("method", "void Show() => Console.WriteLine(", "using System;"),
        ("class", "class Sample", "using System;"),
        ("call", "Console.WriteLine(", "using System;"),
    },
    "rust": {
        ("function", "fn larger(a: u32, b: u32) -> u32 {", "use std::cmp::max;"),
        ("function", "fn main() { assert_eq!(", ""),
        ("class", "struct Point {", ""),
        ("call", "assert_eq!(", ""),
    },
    "php": {
        ("function", "function round_shape(int $radius): Circle", r"use App\Shapes\Circle;"),
        ("class", "class Shelf", ""),
        ("method", "public function add(string $book): void", ""),
        ("call", "print_all(", ""),
    },
    "swift": {
        ("function", "func larger(_ a: Int, _ b: Int) -> Int {", "import Foundation"),
        ("class", "class Shelf {", "import Foundation"),
        ("method", "func add(book: String) {", "import Foundation"),
        ("call", "print(", "import Foundation"),
    },
    "shell": {
        ("function", "greet() {", ". ./lib.sh"),
        ("call", r"printf '%s %s\n' " + "\\", ". ./lib.sh"),
    },
    "go": {
        ("function", "func Shout(word string) string {", 'import "strings"'),
        ("class", "type Shelf struct {", ""),
        ("call", "append(", ""),
    },
    "ruby": {
        ("class", "class Shelf", 'require "set"'),
        ("method", "def add(book)", 'require "set"'),
        ("call", "puts(", 'require "set"'),
    },
    "kotlin": {
        ("function", "fun larger(a: Int, b: Int): Int {", "import kotlin.math.max"),
        ("class", "class Shelf {", ""),
        ("method", "fun add(book: String) {", ""),
        ("call", "val all = listOf(", ""),
    },
}


def sample(language: str) -> Document:
    (path,) = (SAMPLES / language).iterdir()
    return document(path.read_text(), language, path.name)


def document(text: str, language: str = "python", path: str = "a.py") -> Document:
    return Document(
        origin="dir:x", version="1", path=path, language=language, license="MIT", text=text
    )


def drawn(found: Document, bounds: Bounds | None = None) -> dict[tuple[str, int], Seed]:
    """Every node that some seed out of 200 takes."""
    seeds = (syntax.extract(found, seed=n, bounds=bounds or Bounds()) for n in range(200))
    return {(seed.kind, seed.line): seed for seed in seeds if isinstance(seed, Seed)}


def test_every_language_has_its_nodes_and_a_sample():
    names = {language.name for language in languages.LANGUAGES}
    assert set(syntax.NODES) == set(NODES) == names == {path.name for path in SAMPLES.iterdir()}


@pytest.mark.parametrize("language", NODES)
def test_whole_nodes_with_the_imports_they_use(language):
    text = sample(language)
    lines = text.text.splitlines()
    found = set()
    for (kind, line), seed in drawn(text).items():
        heads = {head for _, _, head in NODES[language] if seed.code.startswith(f"{head}\n\n")}
        head = heads.pop() if heads else ""
        first, *rest = seed.code.removeprefix(f"{head}\n\n").splitlines()
        found.add((kind, first, head))
        assert first in lines[line - 1]
        for taken, there in zip(rest, lines[line:], strict=False):
            assert taken in there
        assert seed.code.count("{") == seed.code.count("}")
        assert seed.code.count("(") == seed.code.count(")")
        assert (seed.origin, seed.version, seed.license) == ("dir:x", "1", "MIT")
    assert found == NODES[language]


def test_nodes_are_moved_to_the_left_margin():
    found = drawn(sample("python"))
    assert found[("method", 12)].code == (
        "def __init__(self, radius):\n    for value in (radius,):\n        self.radius = value"
    )


def test_bounds_of_size_and_difficulty():
    branches = "".join(f"    if x == {n}:\n        return {n}\n" for n in range(3))
    text = document(f"def hard(x):\n{branches}\n\ndef easy(x):\n    y = x\n    return y\n")
    assert {seed.line for seed in drawn(text).values()} == {1, 10}
    assert {seed.line for seed in drawn(text, Bounds(min_difficulty=3)).values()} == {1}
    assert {seed.line for seed in drawn(text, Bounds(max_difficulty=2)).values()} == {10}
    assert {seed.line for seed in drawn(text, Bounds(min_lines=4)).values()} == {1}
    assert {seed.line for seed in drawn(text, Bounds(max_lines=6)).values()} == {10}
    assert not drawn(text, Bounds(min_difficulty=4))


def test_broken_nodes_are_not_taken():
    text = document(
        "def broken():\n    x = = 1\n    return x\n\n\ndef sound():\n    a = 1\n    return a\n"
    )
    assert {(kind, line) for kind, line in drawn(text)} == {("function", 6)}


def test_a_document_without_nodes_is_rejected():
    found = syntax.extract(document("x = 1\n"), seed=1, bounds=Bounds())
    assert isinstance(found, Rejected)
    assert found.reason == "no node of this size"


def test_the_paper_takes_one_to_fifteen_consecutive_lines():
    lines = [f"line {n}" for n in range(40)]
    found = [paper.extract(document("\n".join(lines)), seed=n, bounds=Bounds()) for n in range(300)]
    lengths = set()
    for seed in found:
        taken = seed.code.split("\n")
        lengths.add(len(taken))
        assert lines[seed.line - 1 : seed.line - 1 + len(taken)] == taken
        assert seed.kind == "lines"
    assert lengths == set(range(1, 16))
    assert len({seed.line for seed in found}) > 20


@pytest.mark.parametrize("name", EXTRACTORS)
def test_a_seed_depends_on_the_document_and_the_number_alone(name):
    text = sample("python")
    one, two = (EXTRACTORS[name](text, seed=5, bounds=Bounds()) for _ in range(2))
    assert one == two
    others = [EXTRACTORS[name](text, seed=n, bounds=Bounds()) for n in range(20)]
    assert len({(seed.line, seed.code) for seed in others if isinstance(seed, Seed)}) > 3


def test_blank_lines_are_rejected():
    found = paper.extract(document("\n\n\n"), seed=1, bounds=Bounds())
    assert isinstance(found, Rejected)
    assert found.reason == "blank lines"
