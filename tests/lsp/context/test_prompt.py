"""The request for a model: within its budget, and the same at its beginning between keystrokes."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from magicoder import languages
from magicoder.client import ModelInfo
from magicoder.errors import UsageError
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.context import prompt
from magicoder.lsp.context.prompt import Request, assemble, unfenced
from magicoder.lsp.context.retrieve import Snippet
from magicoder.lsp.context.tokens import Counter

PYTHON = languages.by_name("python")
FILE = "".join(f"def f{i}(a, b):\n    return a * {i} + b\n\n\n" for i in range(1000))
LINES = FILE.splitlines(keepends=True)
FIM = ModelInfo("m", 32768, fim="qwen", repository=True)
COMMENTS = ModelInfo("m", 32768, fim="deepseek")
PLAIN = ModelInfo("m", 32768)
SNIPPETS = [Snippet(f"lib/m{i}.py", f"def g{i}(x):\n    ...", "signature") for i in range(3)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([Path(__file__).read_text()], trainer)
    return made


@pytest.fixture
def counter(tokenizer: Tokenizer) -> Counter:
    return Counter(tokenizer)


def at(line: int) -> Hole:
    return Hole("".join(LINES[:line]), "".join(LINES[line:]))


def ask(
    hole: Hole,
    served: ModelInfo,
    counter: Counter,
    snippets: list[Snippet] | None = None,
    limit: int = 100,
) -> Request:
    found = assemble(hole, snippets or [], served, counter, limit, PYTHON)
    assert found is not None
    return found


@pytest.mark.parametrize("served", [FIM, COMMENTS, PLAIN])
@pytest.mark.parametrize("context", [600, 2048, 100_000])
@pytest.mark.parametrize("line", [0, 3, 700, 2001, 4000])
def test_window_fits_and_lies_around_the_cursor(
    served: ModelInfo, context: int, line: int, tokenizer: Tokenizer
) -> None:
    counter = Counter(tokenizer)
    served = ModelInfo("m", context, fim=served.fim, repository=served.repository)
    hole = at(line)
    asked = assemble(hole, SNIPPETS, served, counter, 100, PYTHON)
    if asked is None:
        assert not hole.before
        assert served.fim is None
        return
    parts = [asked.prefix, asked.suffix or "", *(s.path + s.text for s in asked.extra)]
    used = sum(len(tokenizer.encode(part).ids) for part in parts)
    budget = min(context - 100, 2048)
    assert used <= budget
    if 700 <= line <= 2001:
        assert used > budget / 2
    code = [line for line in asked.prefix.splitlines(keepends=True) if line[0] != "#"]
    assert hole.before.endswith("".join(code).removesuffix(" "))
    assert hole.after.startswith(asked.suffix or "")
    assert len(tokenizer.encode(asked.suffix or "").ids) <= budget / 4


def test_what_comes_first_stays_while_the_user_types(counter: Counter) -> None:
    """In every order of a prompt, what stands before the cursor's own line is mostly unchanged."""
    starts, suffixes = set(), set()
    before, after = "".join(LINES[:2000]), "".join(LINES[2000:])
    typed = "".join(f"    x{i} = {i}\n" for i in range(64))
    for end in range(len(typed)):
        asked = ask(Hole(before + typed[:end], after), FIM, counter, SNIPPETS)
        starts.add(len(before) + end - len(asked.prefix))
        suffixes.add(asked.suffix)
        assert asked.extra == tuple(SNIPPETS)
    assert len(suffixes) == 1
    assert len(starts) <= 64 / 32 + 1
    assert {FILE[:start].count("\n") % 32 for start in starts} == {0}


def test_short_prefix_leaves_the_suffix_as_it_is(counter: Counter) -> None:
    first, second = (ask(Hole(text, FILE), FIM, counter) for text in ("a", "a = b"))
    assert first.suffix == second.suffix
    assert counter.count(first.suffix or "") <= 512


def test_snippets_take_a_quarter_at_most(counter: Counter) -> None:
    many = [Snippet(f"m{i}.py", FILE[:200], "similar") for i in range(30)]
    asked = ask(at(2000), FIM, counter, many)
    assert 2 < len(asked.extra) < 15
    assert sum(counter.count(s.path + s.text) for s in asked.extra) <= 512
    assert asked.extra == tuple(many[: len(asked.extra)])
    huge = Snippet("big.py", FILE, "similar")
    assert ask(at(2000), FIM, counter, [huge, *SNIPPETS]).extra == tuple(SNIPPETS)


def test_without_a_format_of_its_own_snippets_are_comments(counter: Counter) -> None:
    for served in (COMMENTS, PLAIN):
        asked = ask(at(5), served, counter, SNIPPETS[:1])
        assert asked.extra == ()
        said = "# Path: lib/m0.py\n# def g0(x):\n#     ...\n"
        assert asked.prefix == said + "".join(LINES[:5])
    text = assemble(at(5), SNIPPETS, COMMENTS, counter, 100, None)
    assert text is not None
    assert text.prefix == "".join(LINES[:5])
    go = assemble(at(5), SNIPPETS[:1], COMMENTS, counter, 100, languages.by_name("go"))
    assert go is not None
    assert go.prefix.startswith("// Path: lib/m0.py\n// def g0(x):\n")


def test_a_model_that_continues_gets_its_space_back() -> None:
    asked = ask(Hole("x = ", ""), PLAIN, Counter())
    assert (asked.prefix, asked.suffix, asked.taken_back) == ("x =", None, " ")
    assert asked.stop == ["\n```"]
    asked = ask(Hole("f(", ")\n"), PLAIN, Counter())
    assert (asked.prefix, asked.taken_back, asked.stop) == ("f(", "", ["\n"])
    asked = ask(Hole("x = ", "\n"), FIM, Counter())
    assert (asked.prefix, asked.suffix, asked.taken_back, asked.stop) == ("x = ", "\n", "", [])


def test_nothing_to_go_by() -> None:
    assert assemble(Hole(" \n", "x = 1"), [], PLAIN, Counter(), 10, PYTHON) is None
    assert assemble(Hole(" \n", " "), SNIPPETS, FIM, Counter(), 10, PYTHON) is None
    assert ask(Hole("", "x = 1"), FIM, Counter()).suffix == "x = 1"


def test_an_answer_as_long_as_the_context_is_refused() -> None:
    with pytest.raises(UsageError, match="max_tokens is 500, but the model's context 512"):
        ask(at(5), ModelInfo("m", 512), Counter(), limit=500)


def test_bytes_bound_the_tokens_of_an_unknown_tokenizer() -> None:
    asked = ask(at(2000), ModelInfo("m", 1024, fim="qwen"), Counter())
    assert len((asked.prefix + (asked.suffix or "")).encode()) <= 1024 - 100
    asked = ask(at(2000), FIM, Counter())
    assert 4096 < len((asked.prefix + (asked.suffix or "")).encode()) <= 8192


def test_one_long_line_is_cut_at_the_cursor() -> None:
    line = "ä" * 100_000
    asked = ask(Hole("a\n" + line, line + "\nb"), FIM, Counter())
    assert 1000 < len(asked.prefix.encode()) <= 8192
    assert 500 < len((asked.suffix or "").encode()) <= 2048
    assert set(asked.prefix + (asked.suffix or "")) == {"ä"}


def test_a_model_that_only_chats_is_shown_the_hole(counter: Counter) -> None:
    chats = ModelInfo("m", 8192, chat_only=True)
    asked = ask(Hole("def f():\n    return ", "\n\nf()\n"), chats, counter, SNIPPETS[:1])
    assert asked.messages is not None
    assert [message["role"] for message in asked.messages] == ["system", "user"]
    shown = asked.messages[1]["content"]
    assert f"    return {prompt.MARK}\n\nf()\n" in shown
    assert "# Path: lib/m0.py" in shown
    assert prompt.MARK in asked.messages[0]["content"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```python\na + b\n```", "a + b"),
        ("```\na + b\n```\nThis adds.", "a + b"),
        ("\n```python\na +", "a +"),
        ("```pyth", ""),
        ("a + b", "a + b"),
        ("```python\nreturn a + b\n```", "a + b"),
        ("```python\n    return a + b\n    x\n```", "a + b\n    x"),
        ("```python\n    ret", ""),
        ("    other", "    other"),
    ],
)
def test_a_chats_fence_and_repetition_are_taken_off(answer: str, code: str) -> None:
    assert unfenced(answer, Hole("def f(a, b):\n    return ", "\n")) == code


def test_at_an_empty_line_indentation_stays() -> None:
    assert unfenced("```python\n    x = 1\n    y\n```", Hole("if a:\n", "")) == "    x = 1\n    y"
