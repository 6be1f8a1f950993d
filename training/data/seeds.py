"""The first step: seeds out of real source code (paper, section 2)."""

from collections import Counter, deque
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from magicoder import languages, licenses, redact
from magicoder.errors import MagicoderError, UsageError
from magicoder.training.data import hygiene
from magicoder.training.data.extractors import EXTRACTORS, Bounds, Extractor
from magicoder.training.data.records import Document, Origin, Record, Rejected, Seed
from magicoder.training.data.runner import Stage, Step
from magicoder.training.data.sources import SOURCES, UnavailableError, Wanted


def _language(name: str) -> str:
    if (language := languages.by_name(name)) is None:
        known = ", ".join(language.name for language in languages.LANGUAGES)
        raise ValueError(f"no language '{name}': use one of {known}")
    return language.name


def _source(text: str) -> str:
    kind, _, name = text.partition(":")
    if kind not in SOURCES or not name:
        raise ValueError(f"no source '{text}': write {', '.join(f'{k}:...' for k in SOURCES)}")
    return text


Language = Annotated[str, BeforeValidator(_language)]


class Seeds(BaseModel):
    """Which seeds to take, and out of what.

    sources: `dir:PATH`, `git:URL-or-PATH`, `pypi:NAME[==VERSION]`, `npm:NAME[@VERSION]`,
        `debian:PACKAGE[=VERSION]`, `hf:DATASET[:CONFIG]`, `jsonl:PATH` (documents).
    extractor: `paper` (1 to 15 lines) or `syntax` (whole functions, methods, classes, calls).
    languages: names of `magicoder.languages`; empty takes all that it knows.
    licenses: SPDX identifiers, or "permissive", or "any".
    count: how many seeds, or how many of each language (and no other); None takes all.
    seed: decides the order of the documents and what is taken of each.
    bounds: size and difficulty of what `syntax` takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[Annotated[str, BeforeValidator(_source)], ...] = Field(min_length=1)
    extractor: str = "paper"
    languages: tuple[Language, ...] = ()
    licenses: tuple[str, ...] = Field(("permissive",), min_length=1)
    count: Annotated[int, Field(gt=0)] | dict[Language, Annotated[int, Field(gt=0)]] | None = None
    seed: int = 976
    bounds: Bounds = Bounds()

    @field_validator("sources", "licenses", mode="before")
    @classmethod
    def _one(cls, names: object) -> object:
        return (names,) if isinstance(names, str) else names

    @field_validator("count", mode="before")
    @classmethod
    def _count(cls, count: object) -> object:
        counts = count.values() if isinstance(count, dict) else (count,)
        if isinstance(count, dict):
            count = {_language(str(name)): number for name, number in count.items()}
        if count is not None and not all(isinstance(n, int) and n > 0 for n in counts):
            raise ValueError("write a whole number above 0, or one for each language")
        return count

    @field_validator("extractor")
    @classmethod
    def _extractor(cls, name: str) -> str:
        if name not in EXTRACTORS:
            raise ValueError(f"no extractor '{name}': use one of {', '.join(EXTRACTORS)}")
        return name

    @field_validator("licenses")
    @classmethod
    def _licenses(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return licenses.check(names)
        except UsageError as error:
            raise ValueError(str(error)) from None


def step(config: Seeds) -> Step:
    """Seeds out of `config.sources`, with their stages' books."""
    wanted = Wanted(config.languages, config.count, config.seed)
    redacted: Counter[str] = Counter()
    stages: dict[str, Stage] = {
        "documents": partial(documents, sources=config.sources, wanted=wanted),
        "licenses": partial(licensed, allowed=config.licenses),
        "hygiene": hygiene.clean,
        "distinct": hygiene.distinct,
        "seeds": partial(
            extract,
            extractor=EXTRACTORS[config.extractor],
            bounds=config.bounds,
            seed=config.seed,
            wanted=wanted,
        ),
        "secrets": partial(without_secrets, found=redacted),
    }
    return Step(stages, whole=5, account=lambda: {"redacted": dict(sorted(redacted.items()))})


def documents(
    _: Iterator[Record], *, sources: tuple[str, ...], wanted: Wanted
) -> Iterator[Document | Rejected]:
    """The documents of all sources, one of each in turn, in an order that the seed decides.

    So a large package does not crowd out a small one. A source that cannot be fetched is rejected
    and loses no other.

    Raises:
        UsageError: a source cannot be used.
        MagicoderError: none could be fetched.
    """
    order = sorted(
        set(sources), key=lambda source: sha256(f"{wanted.seed}:{source}".encode()).digest()
    )
    waiting = deque((source, _opened(source, wanted)) for source in order)
    lost: list[str] = []
    while waiting and not wanted.done:
        source, opened = waiting.popleft()
        try:
            document = next(opened, None)
        except UnavailableError as error:
            lost.append(str(error))
            record = Origin(origin=source, path="", language="")
            yield Rejected(reason="source cannot be fetched", record=record, detail=str(error))
            continue
        if document is not None:
            yield document
            waiting.append((source, opened))
    if len(lost) == len(order):
        more = f" ({len(lost) - 1} more cannot be fetched)" if len(lost) > 1 else ""
        raise MagicoderError(f"{lost[0]}{more}")


def _opened(source: str, wanted: Wanted) -> Iterator[Document | Rejected]:
    """Opens the source when its first document is asked for."""
    kind, _, name = source.partition(":")
    yield from SOURCES[kind](name, wanted)


def licensed(
    records: Iterator[Document], *, allowed: tuple[str, ...]
) -> Iterator[Document | Rejected]:
    """Documents under a licence that the allow-list `allowed` admits."""
    for document in records:
        reason = licenses.refusal(document.license, allowed)
        if reason is None:
            yield document
        else:
            small = hygiene.without_text(document)
            yield Rejected(reason=reason, record=small, detail=document.license)


def extract(
    records: Iterator[Document], *, extractor: Extractor, bounds: Bounds, seed: int, wanted: Wanted
) -> Iterator[Seed | Rejected]:
    """One seed a document, until there are as many as wanted."""
    for document in records:
        if not wanted.takes(document.language):
            continue
        found = extractor(document, seed=seed, bounds=bounds)
        yield found
        if isinstance(found, Seed):
            wanted.took(found.language)
            if wanted.done:
                return


def without_secrets(records: Iterator[Seed], *, found: Counter[str]) -> Iterator[Seed]:
    """Seeds as `redact.clean` leaves them; adds to `found` how many of each placeholder it put."""
    for seed in records:
        code, here = redact.clean(seed.code)
        found.update(here)
        yield seed.model_copy(update={"code": code}) if here else seed
