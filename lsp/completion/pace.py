"""How long to wait before asking: as long as the next key usually takes, where that saves work."""

PAUSE = 0.4
"""Seconds without a key after which the user is no longer in the middle of typing."""

LONGEST = 0.2
"""Seconds to wait at most."""

MARGIN = 1.25
"""The next key is waited for a little longer than it usually takes."""

_WEIGHT = 0.25
"""Of the newest measurement in a running average."""


class Pace:
    """Learns how fast the user types and the server answers. Times are seconds of any one clock.

    latency: what the server usually takes for an answer; None: it has given none.
    """

    def __init__(self) -> None:
        self._last = float("-inf")
        self._burst = False
        self._between = LONGEST
        self.latency: float | None = None

    def key(self, now: float) -> None:
        """The text changed."""
        since = now - self._last
        self._burst = since <= PAUSE
        if self._burst:
            self._between += _WEIGHT * (since - self._between)
        self._last = now

    def answered(self, seconds: float) -> None:
        """The server took `seconds` for an answer."""
        if self.latency is None:
            self.latency = seconds
        self.latency += _WEIGHT * (seconds - self.latency)

    def given_up(self, seconds: float) -> None:
        """An answer was no longer wanted after `seconds`: it would have taken longer."""
        if self.latency is None or seconds > self.latency:
            self.answered(seconds)

    def wait(self, now: float, *, line_break: bool, invoked: bool) -> float:
        """Seconds to wait at `now` for another key before the server is asked.

        None for the first key after a pause, at a new line and on demand; none either where the
        server answers before the next key comes.
        """
        if invoked or line_break or not self._burst:
            return 0.0
        if self.latency is not None and self.latency <= self._between:
            return 0.0
        return max(0.0, self._last + min(MARGIN * self._between, LONGEST) - now)
