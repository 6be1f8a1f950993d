"""Fill in the middle: each family's format as data, and prompts rendered as token ids.

A format is told from the tokenizer's vocabulary, not from the model's name. The user's text never
becomes a control token, whatever it spells: it is tokenised apart from the format's own tokens.

    infiller = detect(tokenizer)
    ids = infiller.render("def add(a, b):\\n    return ", "\\n", budget=2048)
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from magicoder.errors import MagicoderError

Order = Literal["psm", "spm"]

REPOSITORY = "workspace"  # its name in a prompt, where a format has one: the true one is private

PREFIX_SHARE = 0.75  # of the room, when both sides are longer than it: what stands before the
# cursor says more about what comes next


class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of transformers fit."""

    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def eos_token_id(self) -> int | None: ...
    def get_vocab(self) -> dict[str, int]: ...
    def get_added_vocab(self) -> dict[str, int]: ...
    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True)
class Repository:
    """How one family was trained on the files of a repository together.

    tokens: its control tokens by their capital in the layouts: R(epository), F(ile).
    start: what opens the prompt. Small letters stand for text: r(epository's name), f(ilename),
        n(ew line), t(ext of a file).
    file: the layout of another file.
    own: what precedes the prompt of the hole's own file, where its name is known.
    inside: the own file's name opens its text instead, behind the control tokens.
    """

    tokens: Mapping[str, str]
    start: str
    file: str
    own: str
    inside: bool = False


@dataclass(frozen=True)
class Format:
    """How one family of models was trained to infill.

    prefix, suffix, middle: its control tokens (Codestral has no middle token).
    layouts: the prompt in each order it was trained with; capitals stand for the control tokens,
        small letters for the user's text: p(refix), s(uffix), m(iddle).
    bos: whether a prompt opens with the tokenizer's beginning-of-sequence token.
    stops: tokens that end an answer, beside end-of-sequence and the control tokens.
    mark: a further token that tells it from families with the same control tokens.
    ids: where its tokens must be, if having them is not enough.
    repository: how it shows other files; None: not at all, or its authors do not tell.
    """

    name: str
    prefix: str
    suffix: str
    middle: str | None
    layouts: Mapping[Order, str]
    bos: bool = False
    stops: tuple[str, ...] = ()
    mark: str | None = None
    ids: Mapping[str, int] = field(default_factory=dict)
    repository: Repository | None = None

    @property
    def order(self) -> Order:
        """The order that keeps a server's cache warm: only the end grows while a user types."""
        return "spm" if "spm" in self.layouts else "psm"

    @property
    def controls(self) -> dict[str, str]:
        """The control tokens by their capital in `layouts`."""
        named = {"P": self.prefix, "S": self.suffix, "M": self.middle}
        return {letter: token for letter, token in named.items() if token is not None}


_PSM: Mapping[Order, str] = {"psm": "PpSsM"}
_BOTH: Mapping[Order, str] = {"psm": "PpSsM", "spm": "PSsMp"}  # Bavarian et al. 2022, section 3
_BARS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")

FORMATS = (
    Format(
        "codellama", "▁<PRE>", "▁<SUF>", "▁<MID>", _BOTH, bos=True, stops=("▁<EOT>",),
        # Its tokenizer class appends these tokens to vocabularies that lack them (Python, 34B);
        # only here were they trained.
        ids={"▁<PRE>": 32007, "▁<SUF>": 32008, "▁<MID>": 32009, "▁<EOT>": 32010},
    ),
    Format(
        "deepseek", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", _PSM, bos=True,
        stops=("<｜end▁of▁sentence｜>", "<|EOT|>"),
    ),
    Format(
        "starcoder", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", _BOTH,
        stops=("<|endoftext|>", "<file_sep>", "<repo_name>", "<filename>", "<reponame>"),
        # The second one's alone: Lozhkov et al. 2024, section 5.
        repository=Repository({"R": "<repo_name>", "F": "<file_sep>"}, "Rr", "Ffnt", "F", True),
    ),
    Format("codegemma", *_BARS, _PSM, bos=True, stops=("<|file_separator|>",),
           mark="<|file_separator|>",
           repository=Repository({"F": "<|file_separator|>"}, "", "fntF", "fn")),
    Format("granite4", *_BARS, _PSM, stops=("<|end_of_text|>", "<|filename|>", "<|reponame|>"),
           mark="<|reponame|>"),
    Format("qwen", *_BARS, _PSM,
           stops=("<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
           repository=Repository({"R": "<|repo_name|>", "F": "<|file_sep|>"},
                                 "Rrn", "Ffntn", "Ffn")),
    Format("codestral", "[PREFIX]", "[SUFFIX]", None, {"spm": "SsPp"}, bos=True,
           stops=("[MIDDLE]",)),
)  # fmt: skip


def detect(tokenizer: Tokenizer, vocab_size: int | None = None) -> "Infiller | None":
    """The tokenizer with its infilling format, or None if its vocabulary holds none.

    vocab_size: rows of the model's embedding; a token beyond them cannot be used.
    """
    vocab = {
        token: id_
        for token, id_ in tokenizer.get_vocab().items()
        if vocab_size is None or id_ < vocab_size
    }
    for form in FORMATS:
        needed = [*form.controls.values(), *form.ids, *([form.mark] if form.mark else [])]
        if all(token in vocab for token in needed) and all(
            vocab[token] == id_ for token, id_ in form.ids.items()
        ):
            return Infiller(form, tokenizer, vocab)
    return None


class Infiller:
    """A format bound to a tokenizer. Not safe for use by two threads at once, as tokenizers are.

    format: the family's format.
    stop_ids: the tokens that end an answer.
    repository: how other files are shown; None where the family or this vocabulary cannot.
    """

    def __init__(self, form: Format, tokenizer: Tokenizer, vocab: Mapping[str, int]) -> None:
        self.format = form
        self._tokenizer = tokenizer
        self._ids = {letter: vocab[token] for letter, token in form.controls.items()}
        shown = form.repository
        if shown is None or not vocab.keys() >= set(shown.tokens.values()):
            shown = None
        self.repository = shown
        if shown is not None:
            self._ids |= {letter: vocab[token] for letter, token in shown.tokens.items()}
        stops = [vocab[token] for token in form.stops if token in vocab]
        eos = tokenizer.eos_token_id
        stops += [*self._ids.values(), *([] if eos is None else [eos])]
        self.stop_ids = tuple(dict.fromkeys(stops))
        bos = tokenizer.bos_token_id
        self._bos = [bos] if form.bos and bos is not None else []
        # An added token of blanks alone (CodeGen, Gemma) folds indentation: it is the user's text.
        self._reserved = {
            token: id_
            for token, id_ in tokenizer.get_added_vocab().items()
            if len(token) > 1 and token.replace("▁", " ").strip()
        } | {token: vocab[token] for token in form.controls.values()}
        if shown is not None:
            self._reserved |= {token: vocab[token] for token in shown.tokens.values()}
        self._reserved_ids = frozenset(self._reserved.values())
        # Sentencepiece puts a space before a text; behind an anchor it does not, as the reference
        # code of Code Llama and Mistral knows.
        first = tokenizer.convert_ids_to_tokens(self._encode("x"))[0]
        self._anchor = "☺" if first.startswith("▁") else ""

    def render(
        self,
        prefix: str,
        suffix: str,
        budget: int,
        order: Order | None = None,
        extra: Sequence[tuple[str, str]] = (),
        filename: str | None = None,
    ) -> list[int]:
        """The prompt's token ids, at most `budget` of them.

        What does not fit is left out far from the cursor: first the other files, the first one
        first, then the prefix loses its beginning, the suffix its end. A side that is short leaves
        its share to the other.

        Args:
            prefix: the text before the hole.
            suffix: the text after it.
            budget: tokens at most.
            order: by default the one that keeps a server's cache warm.
            extra: other files of the repository, as names and texts.
            filename: the name of the file with the hole; told only together with other files.

        Raises:
            MagicoderError: the budget is too small, or the family knows no such order, or no files.
        """
        layout = self.format.layouts.get(order or self.format.order)
        if layout is None:
            known = " or ".join(self.format.layouts)
            raise MagicoderError(f"{self.format.name} has no order '{order}': use {known}")
        if extra and self.repository is None:
            raise MagicoderError(f"{self.format.name} shows no other files: leave them out")
        room = budget - len(self._bos) - sum(letter.isupper() for letter in layout)
        if room < 0:
            raise MagicoderError(
                f"{budget} tokens do not hold an infilling prompt: ask for fewer new tokens"
            )
        before = self._nearest(prefix, room, tail=True)
        after = self._nearest(suffix, room, tail=False)
        files, name = self._files(extra, filename, room - len(before) - len(after))
        room -= len(files) + len(name)
        kept = min(len(after), max(room - len(before), room - round(room * PREFIX_SHARE)))
        text = {
            "p": [*name, *before[max(0, len(before) - (room - kept)) :]],
            "s": after[:kept],
        }
        parts = (text[c] if c in text else [self._ids[c]] for c in layout)
        return [*self._bos, *files, *(id_ for part in parts for id_ in part)]

    def _files(
        self, extra: Sequence[tuple[str, str]], filename: str | None, room: int
    ) -> tuple[list[int], list[int]]:
        """Ids of the other files, and of the own file's name where that opens its text."""
        shown = self.repository
        if shown is None or not extra:
            return [], []
        start = self._laid_out(shown.start, r=REPOSITORY)
        own = self._laid_out(shown.own, f=filename) if filename or shown.inside else []
        name = self.plain(f"{filename}\n", continued=True) if filename and shown.inside else []
        room -= len(start) + len(own) + len(name)
        files: list[int] = []
        for file, text in reversed(extra):
            ids = self._laid_out(shown.file, f=file, t=text) if len(text) < 64 * room else []
            if not ids or len(files) + len(ids) > room:
                break
            files = ids + files
        return ([*start, *files, *own], name) if files else ([], [])

    def _laid_out(self, layout: str, **texts: str | None) -> list[int]:
        """Ids of a repository's layout; text between two control tokens is read as one."""
        filled = texts | {"n": "\n"}
        ids: list[int] = []
        for part in re.findall("[A-Z]|[a-z]+", layout):
            if part.isupper():
                ids.append(self._ids[part])
            else:
                text = "".join(filled[letter] or "" for letter in part)
                ids += self.plain(text, continued=bool(ids))
        return ids

    def plain(self, text: str, *, continued: bool) -> list[int]:
        """Token ids of the user's text, none of them reserved, whatever the text spells.

        continued: the text follows other text, so that no space is put before it.
        """
        ids: list[int] = []
        for piece in self._pieces(text):
            ids += self._plain_piece(piece, continued)
            continued = True
        return ids

    def _pieces(self, text: str) -> Iterator[str]:
        """The text, cut behind the first letter of every reserved token that it spells."""
        present = [token for token in self._reserved if token in text]
        spelled = "|".join(map(re.escape, present))
        cuts = [m.start() + 1 for m in re.finditer(f"(?={spelled})", text)] if present else []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            if start < end:
                yield text[start:end]

    def _plain_piece(self, piece: str, continued: bool) -> list[int]:
        if continued and self._anchor:
            head = self._encode(self._anchor)
            ids = self._encode(self._anchor + piece)[len(head) :]
        else:
            ids = self._encode(piece)
        if self._reserved_ids.isdisjoint(ids):
            return ids
        # The tokenizer reads a reserved token in other letters, as by Unicode normalisation.
        half = len(piece) // 2
        if half == 0:
            return []
        return self._plain_piece(piece[:half], continued) + self._plain_piece(piece[half:], True)

    def _nearest(self, text: str, limit: int, *, tail: bool) -> list[int]:
        """Up to `limit` ids at the end (`tail`) or beginning; reads little of a long text."""
        length = 4 * limit + 1
        while True:
            window = text[max(0, len(text) - length) :] if tail else text[:length]
            ids = self.plain(window, continued=not tail)
            # One more than asked for, so that a token which the window's edge cuts is left out.
            if len(ids) > limit or len(window) == len(text):
                return ids[max(0, len(ids) - limit) :] if tail else ids[:limit]
            length *= 4

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))
