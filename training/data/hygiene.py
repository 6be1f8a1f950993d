"""What a document must be to inspire anyone: written by hand, by its own project, and once.

A rule looks at one document and returns why it is left out, or None.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from magicoder.errors import require
from magicoder.training.data.records import Document, Rejected

Rule = Callable[[Document], str | None]

SIMILARITY = 0.85  # Jaccard, of runs of five words; StarCoder's
PERMUTATIONS, BANDS, SHINGLE, _SEED = 128, 16, 5, 42

_VENDORED = {"node_modules", "bower_components", "third_party", "thirdparty", "third-party"}
_VENDORED |= {"vendor", "vendored", "_vendor", "_vendored", "external", "externals", "deps"}
_VENDORED |= {"dist", "site-packages", "Pods", "jspm_packages", "godeps"}
_TEST_DATA = {"testdata", "test-data", "test_data", "fixtures", "__fixtures__", "fixture"}
_TEST_DATA |= {"snapshots", "__snapshots__"}
_GENERATED_NAME = re.compile(
    r"(_pb2(_grpc)?\.pyi?|\.pb\.(go|cc|h)|\.d\.[cm]?ts|\.(g|designer|generated)\.\w+"
    r"|_generated\.\w+|\.min\.[cm]?js|[-.](bundle|umd)\.[cm]?js)$",
    re.IGNORECASE,
)
_GENERATED = re.compile(
    r"do not (edit|modify)|@generated|auto-?matically generated|auto-?generated"
    r"|(file|code|was|is|source) generated (by|from|with)|^\W*generated (by|from|with)\b",
    re.IGNORECASE | re.MULTILINE,
)
_SOURCE_MAP = re.compile(r"^//[#@] sourceMappingURL=", re.MULTILINE)
_HEAD_LINES = 12
_MAX_LINE, _MAX_MEAN_LINE = 2000, 120  # characters
_MIN_WHITE = 0.06  # of all characters, in files above _SHORT
_SHORT = 500


def vendored(document: Document) -> str | None:
    """Other people's code, or a build of one's own, by the folders it lies in."""
    folders = PurePosixPath(document.path).parts[:-1]
    return "vendored or built" if _VENDORED.intersection(folders) else None


def test_data(document: Document) -> str | None:
    """What tests read rather than run, by the folders it lies in."""
    folders = PurePosixPath(document.path).parts[:-1]
    return "test data" if _TEST_DATA.intersection(folders) else None


def generated(document: Document) -> str | None:
    """By its name, by what its first lines say, or by a source map, which a compiler leaves."""
    head = "\n".join(document.text.split("\n", _HEAD_LINES)[:_HEAD_LINES])
    found = (
        _GENERATED_NAME.search(document.path)
        or _GENERATED.search(head)
        or _SOURCE_MAP.search(document.text)
    )
    return "generated" if found else None


def minified(document: Document) -> str | None:
    """Lines too long, or too little white space, for a human being."""
    lines = document.text.splitlines() or [""]
    size = len(document.text)
    if max(map(len, lines)) > _MAX_LINE or size / len(lines) > _MAX_MEAN_LINE:
        return "minified"
    if size > _SHORT and sum(map(str.isspace, document.text)) < _MIN_WHITE * size:
        return "minified"
    return None


def blank(document: Document) -> str | None:
    """Nothing but white space."""
    return None if document.text.strip() else "blank"


RULES: Sequence[Rule] = (vendored, test_data, blank, generated, minified)


def clean(records: Iterator[Document]) -> Iterator[Document | Rejected]:
    """The stage of all `RULES`: the first that objects is the reason."""
    for document in records:
        reason = next((told for rule in RULES if (told := rule(document))), None)
        yield Rejected(reason=reason, record=without_text(document)) if reason else document


def distinct(records: Iterator[Document]) -> Iterator[Document | Rejected]:
    """Leave out what is the same as an earlier document, exactly or nearly.

    Near means a Jaccard similarity of `SIMILARITY` or more between the sets of runs of `SHINGLE`
    words, estimated by MinHash; white space and punctuation do not count. The index holds
    some 2.4 kB for each document that was let through.
    """
    rensa = require("rensa", "data")
    index = rensa.RMinHashDeduplicator(SIMILARITY, PERMUTATIONS, True, BANDS, _SEED)
    exact: dict[bytes, str] = {}
    for document in records:
        words = re.findall(r"\w+", document.text)
        name = f"{document.origin}/{document.path}"
        key = hashlib.sha256(" ".join(words).encode()).digest()
        if key in exact:
            yield _same("exact duplicate", document, exact[key])
            continue
        sketch = rensa.RMinHash(PERMUTATIONS, _SEED)
        sketch.update(
            [" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))]
        )
        if len(words) >= SHINGLE and not index.add(name, sketch):
            near = sorted(index.get_duplicates(sketch))
            yield _same("near duplicate", document, near[0] if near else "")
            continue
        exact[key] = name
        yield document


def without_text(document: Document) -> Document:
    """The document as the rejects keep it: where it is, not what it says."""
    return document.model_copy(update={"text": ""})


def _same(reason: str, document: Document, other: str) -> Rejected:
    return Rejected(reason=reason, record=without_text(document), detail=f"of {other}")
