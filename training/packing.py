"""From problems and solutions to packs: several documents in one row, each of its own.

A pack has no padding. Position ids start anew with each document, `lengths` tells attention where
one ends, and everything the device needs is known on the host before it sees the pack.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from magicoder import prompts
from magicoder.errors import UsageError
from magicoder.training.recipe import Prompt

IGNORED = -100  # the label of a token that is not trained on


class Example(BaseModel):
    """What training reads of a dataset's row; other fields may stand beside."""

    problem: str = Field(min_length=1)
    solution: str = Field(min_length=1)


@dataclass(frozen=True)
class Document:
    """One example's tokens. `labels[i]` is `ids[i]` in the response and IGNORED in the prompt."""

    ids: list[int]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Pack:
    """Documents in one row of T tokens.

    input_ids, position_ids: `(1, T)` int64. lengths: tokens of each of the D documents.
    cu_seqlens: `(D + 1,)` int32, where each begins, and T.
    rows: `(S,)` int64, the places whose next token is trained on; targets: `(S,)` int64, these.
    Both stay on the host, where the loss checks them without waiting for the device.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: tuple[int, ...]
    cu_seqlens: Tensor
    rows: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Pack":
        """The same with what the model reads on `device`."""
        names = ("input_ids", "position_ids", "cu_seqlens")
        return replace(
            self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names}
        )


def read(paths: Iterable[Path]) -> list[Example]:
    """The examples of JSONL files.

    Raises:
        UsageError: a file is missing or empty, or a line does not hold an example.
    """
    examples = []
    for path in paths:
        try:
            with path.open(encoding="utf-8") as file:
                lines = list(file)  # str.splitlines would also split at U+2028, inside a string
        except OSError as error:
            raise UsageError(
                f"dataset {path} cannot be read: {error.strerror}: set data=PATH"
            ) from None
        except UnicodeDecodeError:
            raise UsageError(f"dataset {path} is not UTF-8 text: set data=PATH") from None
        for number, line in enumerate(lines, 1):
            try:
                examples.append(Example.model_validate_json(line))
            except ValidationError:
                raise UsageError(
                    f"{path} line {number}: expected a JSON object with texts 'problem' and "
                    "'solution'"
                ) from None
    if not examples:
        raise UsageError("the dataset holds no example: set data=PATH to one that does")
    return examples


def tokenize(
    examples: Iterable[Example], tokenizer: Any, prompt: Prompt, max_length: int
) -> tuple[list[Document], Counter[str]]:
    """The examples as tokens, and how many were cut or left out for being too long.

    `prompt` is the form of the request: the paper's, or the tokenizer's own chat template. Prompt
    and response are tokenised apart, so that the boundary is where generation will have it. As in
    the paper's code, what passes `max_length` tokens is cut off; an example whose prompt leaves no
    room for a response is left out.

    Raises:
        UsageError: the tokenizer has no chat template, or one that cannot be taken apart.
    """
    if prompt == "chat" and tokenizer.chat_template is None:
        raise UsageError("the model has no chat template: set prompt=magicoder")
    documents, cut = [], Counter[str]()
    form = _chat if prompt == "chat" else _magicoder
    for example in examples:
        request, response = form(example, tokenizer)
        ids = request + response
        if len(request) >= max_length:
            cut["left out"] += 1
            continue
        cut["cut off"] += len(ids) > max_length
        labels = [IGNORED] * len(request) + response
        documents.append(Document(ids[:max_length], labels[:max_length]))
    return documents, +cut


def _magicoder(example: Example, tokenizer: Any) -> tuple[list[int], list[int]]:
    """The paper's prompt, with the tokenizer's own beginning (Llama's <s>), and its end token."""
    instruction = prompts.fill("training_instruction", problem=example.problem)
    request = tokenizer(prompts.fill("magicoder_prompt", instruction=instruction)).input_ids
    response = tokenizer(example.solution, add_special_tokens=False).input_ids
    return request, [*response, tokenizer.eos_token_id]


def _chat(example: Example, tokenizer: Any) -> tuple[list[int], list[int]]:
    instruction = prompts.fill("training_instruction", problem=example.problem)
    turns = [
        {"role": "user", "content": instruction},
        {"role": "assistant", "content": example.solution},
    ]
    request = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    if not whole.startswith(request):
        raise UsageError("the model's chat template rewrites its prompt: set prompt=magicoder")
    response = whole[len(request) :].rstrip()
    encoded = [tokenizer(text, add_special_tokens=False).input_ids for text in (request, response)]
    return encoded[0], encoded[1]


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Which documents share a row: best fit, longest first.

    Args:
        lengths: tokens of each document, none above `capacity`.
        capacity: tokens a row.

    Returns:
        Indices into `lengths`; each stands in exactly one row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        fits = [row for row, free in enumerate(room) if free >= length]
        if fits:
            row = min(fits, key=room.__getitem__)
        else:
            row = len(rows)
            rows.append([])
            room.append(capacity)
        rows[row].append(index)
        room[row] -= length
    return rows


def collate(documents: Sequence[Document]) -> Pack:
    """The documents in one row."""
    lengths = tuple(len(document) for document in documents)
    rows, targets, start = [], [], 0
    for document in documents:
        for place, label in enumerate(document.labels[1:], start):
            if label != IGNORED:
                rows.append(place)
                targets.append(label)
        start += len(document)
    ids = [token for document in documents for token in document.ids]
    positions = [place for length in lengths for place in range(length)]
    return Pack(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        lengths=lengths,
        cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
        rows=torch.tensor(rows, dtype=torch.int64),
        targets=torch.tensor(targets, dtype=torch.int64),
    )
