"""`hf:DATASET[:CONFIG]`: a dataset of source files, streamed from the hub or out of a folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from magicoder import languages, licenses
from magicoder.errors import UsageError, require
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources.base import UnavailableError, Wanted
from magicoder.training.data.sources.tree import MAX_BYTES

BUFFER = 2000  # documents held for shuffling, at most 1 MB each, some 10 kB on average

COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("content", "text", "code"),
    "path": ("max_stars_repo_path", "path", "file_path"),
    "repository": ("max_stars_repo_name", "repo_name", "repo"),
    "version": ("max_stars_repo_head_hexsha", "revision_id", "commit"),
    "license": ("max_stars_repo_licenses", "detected_licenses", "licenses", "license"),
    "language": ("lang", "language"),
}
"""The columns that may hold each thing; the first that a dataset has is taken."""

_STARCODER = {"csharp": "c-sharp"}
FOLDERS: dict[str, tuple[str, Mapping[str, str]]] = {
    "bigcode/starcoderdata": ("", _STARCODER),
    "bigcode/the-stack": ("data/", _STARCODER | {"cpp": "c++"}),
    "bigcode/the-stack-dedup": ("data/", _STARCODER | {"cpp": "c++"}),
}
"""Datasets with one folder a language: what stands before its name, and where that is another."""


def documents(name: str, wanted: Wanted) -> Iterator[Document | Rejected]:
    """The dataset's documents, shuffled within a buffer of `BUFFER`.

    Of a dataset in `FOLDERS` CONFIG is one language, by its name here.
    """
    datasets = require("datasets", "data")
    dataset, _, config = name.partition(":")
    arguments: dict[str, Any] = {"name": config or None}
    only = ""
    if dataset in FOLDERS:
        only = _language(dataset, config)
        before, names = FOLDERS[dataset]
        arguments = {"data_dir": before + names.get(only, only)}
    try:
        path = Path(dataset).expanduser()
        rows = datasets.load_dataset(
            str(path) if path.is_dir() else dataset, split="train", streaming=True, **arguments
        )
        columns = rows.column_names or list(next(iter(rows), {}))
    except Exception as error:  # the hub's errors have no common type
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnavailableError(f"hf:{name} cannot be read: {lines[0][:300]}") from None
    column = {
        what: next((name for name in names if name in columns), None)
        for what, names in COLUMNS.items()
    }
    if not column["text"] or not (only or column["path"] or column["language"]):
        raise UsageError(
            f"hf:{name} has the columns {', '.join(columns)}: needed are one of "
            f"{', '.join(COLUMNS['text'])}, and one of "
            f"{', '.join(COLUMNS['path'] + COLUMNS['language'])}"
        )
    for row in rows.shuffle(seed=wanted.seed, buffer_size=BUFFER):
        if only and not wanted.takes(only):
            return
        told = {what: row[name] or "" if name else "" for what, name in column.items()}
        language = languages.by_name(only or str(told["language"])) or languages.by_path(
            str(told["path"])
        )
        if language is None or not wanted.takes(language.name):
            continue
        document = Document(
            origin=f"hf:{path.name if path.is_dir() else dataset}",
            version=str(told["version"]),
            path="/".join(str(told[what]) for what in ("repository", "path") if told[what]),
            language=language.name,
            license=_license(told["license"]),
            text=str(told["text"]),
        )
        if len(document.text.encode()) > MAX_BYTES:
            small = document.model_copy(update={"text": ""})
            yield Rejected(reason="larger than 1 MB", record=small)
        else:
            yield document


def _language(dataset: str, config: str) -> str:
    language = languages.by_name(config)
    if language is None:
        raise UsageError(f"hf:{dataset} has a folder a language: write hf:{dataset}:python")
    return language.name


def _license(told: object) -> str:
    """A dataset lists all the licences that it found in a repository: each must be allowed."""
    names = told if isinstance(told, list) else [told]
    return licenses.all_of(licenses.normalise(str(name)) for name in names)
