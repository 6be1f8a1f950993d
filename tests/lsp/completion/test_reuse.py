"""What is known already: by the text around the cursor. The cursor is written as a bar."""

import asyncio

import pytest

from magicoder.errors import MagicoderError
from magicoder.lsp.completion import reuse
from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.completion.reuse import AFTER, BEFORE, SIZE, Cache, Generation


def hole(text: str) -> Hole:
    before, after = text.split("|")
    return Hole(before, after)


def kept(text: str, suggestion: str) -> Cache:
    cache = Cache()
    cache.keep(hole(text), suggestion)
    return cache


@pytest.mark.parametrize(
    ("now", "rest"),
    [
        ("x = |\ny", "foo(a)"),
        ("x = f|\ny", "oo(a)"),
        ("x = foo(a|\ny", ")"),
        ("x = foo(a)|\ny", None),
        ("x = g|\ny", None),
        ("x =|\ny", None),
        ("x = |\nz", None),
        ("y = |\ny", None),
        ("x = foo(|)\ny", "a"),
        ("x = foo(|]\ny", None),
        ("x = foo(|))\ny", None),
        ("x = foo(| )\ny", None),
    ],
)
def test_what_is_left_of_a_suggestion(now: str, rest: str | None) -> None:
    assert kept("x = |\ny", "foo(a)").find(hole(now)) == rest


def test_a_word_or_a_line_of_it_may_be_accepted() -> None:
    cache = kept("def f():\n    |", "first()\n    second()")
    assert cache.find(hole("def f():\n    first|")) == "()\n    second()"
    assert cache.find(hole("def f():\n    first()\n    |")) == "second()"


def test_nothing_to_say_is_known_right_there_alone() -> None:
    cache = kept("x = |", "")
    assert cache.find(hole("x = |")) == ""
    assert cache.find(hole("x = 1|")) is None


def test_what_is_far_from_the_cursor_does_not_count() -> None:
    near, far = "a" * BEFORE, "b" * AFTER
    cache = kept(f"old\n{near}|{far} old", "c")
    assert cache.find(hole(f"new\n{near}|{far} new")) == "c"
    assert cache.find(hole(f"old\nz{near[1:]}|{far} old")) is None
    assert cache.find(hole(f"old\n{near}|{far[1:]}z old")) is None


def test_a_twin_in_another_definition_is_another_place() -> None:
    pad = f"    # {'-' * BEFORE}\n"
    cache = kept(f"def a(x):\n{pad}    return |\n", "x + 1")
    assert cache.find(hole(f"def b(y):\n{pad}    return |\n")) is None
    assert cache.find(hole(f"import os\ndef a(x):\n{pad}    return x|\n")) == " + 1"


def test_a_file_is_checked_where_the_rest_is_typed_and_no_further() -> None:
    cache = kept("x = |\ny", "foo(a)")
    assert cache.checked(hole("x = foo|\ny"), "(a)")
    assert not cache.checked(hole("x = foo|\nz"), "(a)")


def test_a_place_at_the_beginning_is_no_place_further_on() -> None:
    assert kept("|", "abcab").find(hole("ab|")) == "cab"
    assert kept("a|", "b").find(hole("xa|")) is None


def test_the_newest_is_served_and_the_oldest_forgotten() -> None:
    cache = kept("x = |", "old")
    cache.keep(hole("x = |"), "new")
    assert cache.find(hole("x = |")) == "new"
    assert cache.all(hole("x = |")) == ["new", "old"]
    for number in range(SIZE - 1):
        cache.keep(hole(f"{number} = |"), "1")
    assert cache.all(hole("x = |")) == ["new"]
    cache.keep(hole("y = |"), "1")
    assert cache.find(hole("x = |")) is None


class Answer:
    """A generation whose text the tests send."""

    def __init__(self, at: str) -> None:
        self.parts: asyncio.Queue[str | MagicoderError | None] = asyncio.Queue()
        self.generation = Generation(hole(at), self.work)

    async def work(self, generation: Generation) -> str:
        while (part := await self.parts.get()) is not None:
            if isinstance(part, MagicoderError):
                raise part
            generation.add(generation.text + part)
        return generation.text

    async def sends(self, *parts: str | MagicoderError | None) -> None:
        for part in parts:
            self.parts.put_nowait(part)
        await asyncio.sleep(0.005)


async def test_an_answer_is_followed_from_where_it_agrees() -> None:
    answer = Answer("x = |\n")
    await answer.sends("foo(")
    generation = answer.generation
    assert generation.agrees(hole("x = f|\n"))
    assert generation.agrees(hole("x = foo(bar|\n")), "it may yet say so"
    assert generation.agrees(hole("x = foo(|)\n")), "the editor closed it"
    assert not generation.agrees(hole("x = g|\n"))
    assert not generation.agrees(hole("y = f|\n"))
    assert not generation.agrees(hole("x = |\nz"))
    followers = [
        asyncio.create_task(generation.follow(hole(at)))
        for at in ("x = |\n", "x = foo(b|\n", "x = foo(z|\n", "x = foo(|)\n", "x = foo(b)|\n")
    ]
    await answer.sends("b", ")", None)
    assert await asyncio.gather(*followers) == ["foo(b)", ")", None, "b", None]


async def test_an_answer_that_fails_fails_for_all_who_follow() -> None:
    answer = Answer("x = |")
    followers = [asyncio.create_task(answer.generation.follow(hole("x = |"))) for _ in range(2)]
    await answer.sends(MagicoderError("no"))
    for follower in followers:
        with pytest.raises(MagicoderError, match="no"):
            await follower


async def test_an_answer_nobody_follows_ends_after_a_moment() -> None:
    answer = Answer("x = |")
    follower = asyncio.create_task(answer.generation.follow(hole("x = |")))
    await answer.sends("a")
    follower.cancel()
    await asyncio.sleep(0)
    assert answer.generation.alive
    newer = asyncio.create_task(answer.generation.follow(hole("x = a|")))
    await asyncio.sleep(2 * reuse.GRACE)
    assert answer.generation.alive, "somebody follows"
    newer.cancel()
    await answer.generation.ended()


async def test_an_edit_that_agrees_gives_it_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "TYPING", 3600)
    answer = Answer("x = |\n")
    follower = asyncio.create_task(answer.generation.follow(hole("x = |\n")))
    await answer.sends("foo(")
    follower.cancel()
    await asyncio.sleep(0)
    answer.generation.edited("x = foo()\n")
    await asyncio.sleep(2 * reuse.GRACE)
    assert answer.generation.alive
    answer.generation.edited("x = foo[\n")
    await answer.generation.ended()


async def test_what_is_made_ahead_runs_without_anybody() -> None:
    answer = Answer("x = |")
    ahead = Generation(hole("x = |"), answer.work, ahead=True)
    ahead.edited("something else")
    await asyncio.sleep(2 * reuse.GRACE)
    assert ahead.alive
    await ahead.cancelled()
    assert not ahead.alive
