"""Writes a dataset as Parquet with its card, to a folder or to the Hugging Face hub."""

import os
import shutil
import tempfile
import types
import typing
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from magicoder.errors import MagicoderError, UsageError, require
from magicoder.training.configuration import Section
from magicoder.training.data import runner
from magicoder.training.data.records import Sample

Watch = Callable[[int], None]


class Push(Section):
    """Where a dataset goes, and in what pieces.

    to: a folder, or `hf:USER/NAME` on the hub. card: a README.md to lay beside it. private: whether
    a repository that is made on the hub is private. file_bytes: a Parquet file is closed once it
    is as large; row_group: rows held in memory and written at once.
    """

    to: str = Field(min_length=1, description="a folder, or hf:USER/NAME")
    card: Path | None = Field(None, description="a file, or null")
    private: bool = Field(False, description="true or false")
    file_bytes: int = Field(500_000_000, gt=0, description="a whole number of bytes")
    row_group: int = Field(1000, gt=0, description="a whole number of rows")


def push(config: Push, dataset: Path, watch: Watch = lambda rows: None) -> str:
    """Write `dataset` (JSONL of samples) and return where it is: the folder, or its address.

    A folder appears whole or not at all. It takes the place of an earlier push, as do the files on
    the hub. `watch` hears how many rows are written.

    Raises:
        UsageError: the dataset or the card cannot be read, or the folder holds something else.
        MagicoderError: the hub refuses, or there is no token for it.
    """
    hub = config.to.removeprefix("hf:") if config.to.startswith("hf:") else None
    target = Path(config.to).expanduser().absolute()
    if hub is None:
        _check_free(target)
        target.parent.mkdir(parents=True, exist_ok=True)
    elif not require("huggingface_hub", "data").get_token():
        raise MagicoderError("no token for the hub: run 'hf auth login', or set HF_TOKEN")
    with tempfile.TemporaryDirectory(
        dir=target.parent if hub is None else None, prefix=".push-"
    ) as work:
        made = Path(work) / "new"
        _write(config, dataset, made, watch)
        if hub is not None:
            return _upload(made, hub, config.private)
        if target.exists():
            os.replace(target, Path(work) / "old")
        os.replace(made, target)
    return str(target)


def schema() -> Any:
    """The columns as a pyarrow.Schema, out of `Sample`'s own types: the same for every dataset."""
    return require("pyarrow", "data").schema(list(_arrow(Sample)))


def _fields(kind: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in kind.model_fields.items():
        yield name, field.annotation
    for name, computed in kind.model_computed_fields.items():
        yield name, computed.return_type


def _arrow(hint: Any) -> Any:
    """Arrow's type for a scalar, a tuple of one type, a record, or one of them or None."""
    pa = require("pyarrow", "data")
    scalars = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if hint in scalars:
        return scalars[hint]
    arguments = [arg for arg in typing.get_args(hint) if arg not in (types.NoneType, ...)]
    if typing.get_origin(hint) is tuple:
        return pa.list_(_arrow(arguments[0]))
    if arguments:
        return _arrow(arguments[0])
    return pa.struct([pa.field(name, _arrow(inner)) for name, inner in _fields(hint)])


def _write(config: Push, dataset: Path, folder: Path, watch: Watch) -> None:
    """data/train-00000-of-0000N.parquet and README.md."""
    pa, parquet = require("pyarrow", "data"), require("pyarrow.parquet", "data")
    columns = schema()
    (folder / "data").mkdir(parents=True)
    if config.card:
        try:
            shutil.copyfile(config.card, folder / "README.md")
        except OSError as error:
            raise UsageError(
                f"card {config.card} cannot be read ({error.strerror}): make one with "
                "'magicoder data report'"
            ) from None
    parts: list[Path] = []
    writer, rows = None, 0
    for group in _groups(runner.read(iter(()), path=dataset, type=Sample), config.row_group):
        if writer is None:
            parts.append(folder / "data" / f"{len(parts)}.part")
            writer = parquet.ParquetWriter(parts[-1], columns, compression="zstd")
        batch = [sample.model_dump() for sample in group]
        writer.write_table(pa.Table.from_pylist(batch, schema=columns))
        rows += len(group)
        watch(rows)
        if parts[-1].stat().st_size >= config.file_bytes:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()
    if not parts:
        raise UsageError(f"{dataset} holds no samples: there is nothing to push")
    for number, part in enumerate(parts):
        part.rename(part.with_name(f"train-{number:05}-of-{len(parts):05}.parquet"))


def _groups(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while group := list(islice(samples, size)):
        yield group


def _check_free(target: Path) -> None:
    """An earlier push, Parquet files and perhaps a card, may be replaced, and nothing else.

    Raises:
        UsageError: the target is anything else.
    """
    if not target.exists() and not target.is_symlink():
        return
    found = {str(path.relative_to(target)) for path in target.rglob("*")}
    parquet = {name for name in found if fnmatch(name, "data/train-*.parquet")}
    if not parquet or target.is_symlink() or found - parquet - {"README.md", "data"}:
        raise UsageError(f"{target} holds something else: name a new folder")


def _upload(folder: Path, repository: str, private: bool) -> str:
    hub = require("huggingface_hub", "data")
    errors = require("huggingface_hub.errors", "data")
    try:
        api = hub.HfApi()
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            repo_type="dataset",
            commit_message="Push by magicoder data push",
            delete_patterns="data/train-*.parquet",
        )
    except errors.HFValidationError:
        raise UsageError(f"no repository 'hf:{repository}': write hf:USER/NAME") from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise MagicoderError(
            f"the hub did not take {repository} ({str(error).splitlines()[0]}): check the name, "
            "the token's rights and the network, then push again"
        ) from None
    return f"{api.endpoint}/datasets/{repository}"
