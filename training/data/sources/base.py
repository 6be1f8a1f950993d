"""What every source is given and gives."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from magicoder.errors import MagicoderError
from magicoder.training.data.records import Document, Rejected


class UnavailableError(MagicoderError):
    """A source cannot be fetched: others may still be."""


class Wanted:
    """What is still wanted: languages (empty takes all), and how many seeds, or of which language.

    Sources ask `takes` before they read a document, so that a language that has its seeds costs
    nothing more; `seed` decides their order.
    """

    def __init__(
        self, languages: Collection[str], count: int | Mapping[str, int] | None, seed: int
    ) -> None:
        self.seed = seed
        self._languages = frozenset(languages)
        self._count = count
        self._taken: Counter[str] = Counter()

    def takes(self, language: str) -> bool:
        """Whether another seed in `language` is wanted."""
        if self._languages and language not in self._languages:
            return False
        if isinstance(self._count, Mapping):
            return self._taken[language] < self._count.get(language, 0)
        return self._count is None or self._taken.total() < self._count

    def took(self, language: str) -> None:
        """A seed in `language` was made."""
        self._taken[language] += 1

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted."""
        if isinstance(self._count, Mapping):
            return not any(self.takes(language) for language in self._count)
        return self._count is not None and self._taken.total() >= self._count


class Source(Protocol):
    """A kind of source."""

    def __call__(self, name: str, wanted: Wanted) -> Iterator[Document | Rejected]:
        """The documents of `name`, what the user wrote behind the colon.

        Their order depends on `name` and `wanted.seed` alone.

        Raises:
            UsageError: `name` cannot be used.
            UnavailableError: it cannot be fetched.
        """
        ...
