"""How long the engine waits for another key, by a clock that the tests turn."""

import pytest

from magicoder.lsp.completion.pace import LONGEST, MARGIN, PAUSE, Pace


def typing(between: float, keys: int = 40) -> tuple[Pace, float]:
    """Somebody who types evenly; and when the last key was pressed."""
    pace, now = Pace(), 100.0
    for _ in range(keys):
        now += between
        pace.key(now)
    return pace, now


def wait(pace: Pace, now: float, *, line_break: bool = False, invoked: bool = False) -> float:
    return pace.wait(now, line_break=line_break, invoked=invoked)


def test_nothing_waits_before_anything_is_typed_or_after_a_pause() -> None:
    assert wait(Pace(), 5.0) == 0
    pace, now = typing(0.1)
    pace.answered(1.0)
    pace.key(now + PAUSE + 0.1)
    assert wait(pace, now + PAUSE + 0.1) == 0
    pace.key(now + PAUSE + 0.2)
    assert wait(pace, now + PAUSE + 0.2) > 0, "the second key of a burst"


@pytest.mark.parametrize("between", [0.05, 0.08, 0.12])
def test_in_a_burst_it_waits_for_the_next_key(between: float) -> None:
    pace, now = typing(between)
    pace.answered(1.0)
    assert wait(pace, now) == pytest.approx(MARGIN * between, rel=0.05)
    assert wait(pace, now + 0.03) == pytest.approx(MARGIN * between - 0.03, rel=0.1)
    assert wait(pace, now + 1) == 0, "the editor has waited long enough"


def test_it_never_waits_longer_than_a_bound() -> None:
    pace, now = typing(0.35)
    pace.answered(5.0)
    assert wait(pace, now) == pytest.approx(LONGEST)


def test_a_server_faster_than_the_typing_is_asked_at_each_key() -> None:
    pace, now = typing(0.1)
    pace.answered(0.05)
    assert wait(pace, now) == 0
    for _ in range(20):
        pace.answered(0.5)
    assert wait(pace, now) > 0, "it has become slow"


def test_an_answer_given_up_was_at_least_as_slow() -> None:
    pace, now = typing(0.1)
    pace.answered(0.05)
    pace.given_up(0.01)
    assert wait(pace, now) == 0, "it tells nothing"
    for _ in range(10):
        pace.given_up(0.3)
    assert wait(pace, now) > 0


@pytest.mark.parametrize("why", ["line_break", "invoked"])
def test_a_new_line_and_a_question_wait_for_nothing(why: str) -> None:
    pace, now = typing(0.1)
    pace.answered(1.0)
    assert wait(pace, now) > 0
    assert wait(pace, now, **{why: True}) == 0
