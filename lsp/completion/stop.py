"""Stage 6: where a streaming answer is over."""

import re
from itertools import accumulate

from magicoder.lsp.completion.hole import Hole
from magicoder.lsp.completion.scope import Extent, Owner, depth
from magicoder.lsp.trees import Source

COPIES = 3
"""So many copies of lines, one after the other, are a loop."""

SPAN = 60
"""So many characters of copies within a line are a loop."""

DIGITS, RULER = 24, 120
"""So many where they are copies of one to three characters: with letters or digits, or without."""

_CLOSER = re.compile(r"[)\]}]|(end|fi|done|esac)\b")
_CLOSED = re.compile(r"([)\]};,\s]|\b(end|fi|done|esac)\b)+$")
_GOES_ON = re.compile(
    r"[{.?:|&+]|(else|elif|elsif|elseif|except|finally|catch|rescue|ensure|while|then|do|where)\b"
)
_CASE = re.compile(r"(case|default|when|public|private|protected|signals)\b")
_DIRECTIVE = re.compile(
    r"#\s*(if|ifn?def|el(se|if)|endif|define|undef|include|pragma|(end)?region)"
)
_COMMON = re.compile(
    r"\W*(else|end|return|pass|break|continue|try|finally|do|begin|fi|done|then|esac)?\W*$"
)
_SPECIAL = re.compile(
    r"<[|｜][\w▁ .-]+[|｜]>|</?s>|▁?<(PRE|SUF|MID|EOT)>|\[(PREFIX|SUFFIX|MIDDLE)\]"
    r"|<(fim|file|repo|gh|issue|jupyter|commit|empty)_\w+>|<(filename|reponame)>"
    r"|<(eos|bos|pad|unk|(start|end)_of_turn)>"
)
_PATH = re.compile(r"^[ \t]*(#|//|--|%|;+|\*) Path: \S", re.MULTILINE)


class Watch:
    """Reads an answer to the hole while it arrives.

    The end of the stream ends no line: `end` judges the last one where a line feed is added to it.
    """

    def __init__(self, hole: Hole, extent: Extent, source: Source, offset: int) -> None:
        self._hole, self._extent, self._source, self._offset = hole, extent, source, offset
        self._below = [line.rstrip() for line in below(hole) if line.strip()][:2]
        self._fenced = "```" in hole.before or "```" in hole.after
        above = hole.before.rsplit("\n", 41)[:-1]
        self._lines = [line.rstrip() for line in above[-40:] if line.strip()][-12:]
        self._ends = [0] * len(self._lines)  # where each of them ends in the answer
        self._start = 0  # of the first line that is not judged yet
        self._kept = 0  # the end of the last line that is no blank one
        self._blank = self._closed = False
        self._over: int | None = None
        self._repeated: int | None = None
        self._first: int | None = None  # the depth of the answer
        self._owner: Owner | None = None

    def end(self, text: str) -> int | None:
        """Where in `text`, all that has arrived, the completion is over; None: more may come."""
        if self._over is None:
            self._over = self._read(text)
        return self._over

    def _read(self, text: str) -> int | None:
        special = self._special(text)
        if special is not None:
            text = text[:special] + "\n"
        while (stop := text.find("\n", self._start)) >= 0:
            if (where := self._judge(text, text[self._start : stop])) is not None:
                return where
            self._start = stop + 1
        tail = text[self._start :]
        if special is not None:
            return special
        if self._start and self._told(tail) and self._leaves(text, tail):
            return self._kept
        return self._stutters(tail)

    def _special(self, text: str) -> int | None:
        """Where a model's control token begins, unless the document quotes it as well."""
        for found in _SPECIAL.finditer(text):
            known = found[0] in self._hole.before or found[0] in self._hole.after
            before, after = text[: found.start()][-1:], text[found.end() :][:1]
            if not (known and before in ("'", '"', "`") and after in ("", before)):
                return found.start()
        return None

    def _judge(self, text: str, line: str) -> int | None:
        """Where the answer is over, given that `line` has arrived whole."""
        stop = self._start + len(line)
        if (where := self._stutters(line)) is not None:
            return where
        if self._fence(line):
            return self._kept
        if (where := self._context(line)) is not None:
            return where
        if self._extent.kind == "line":
            return stop
        whole = line if self._start else self._hole.line_before + line
        if not whole.strip():
            self._blank = True
            return self._kept if self._closed else None
        if self._start and self._leaves(text, line):
            return self._kept
        if line.strip() and (where := self._repeats(whole.rstrip())) is not None:
            return where
        if self._first is None and line.strip():
            self._begin(whole)
        self._closed = self._closed or (
            self._owner is not None
            and depth(whole) == self._owner.depth
            and bool(self._start)
            and _CLOSED.match(whole.strip()) is not None
        )
        self._blank = False
        self._kept = stop
        self._lines.append(whole.rstrip())
        self._ends.append(stop)
        return self._loop()

    def _context(self, line: str) -> int | None:
        """Where the answer goes on as what the model was shown of other files, in comments."""
        if not _PATH.match(line) or _PATH.search(self._hole.before):
            return None
        mark = line.split(maxsplit=1)[0]
        said = zip(reversed(self._lines), reversed(self._ends), strict=True)
        return next((end for above, end in said if not above.lstrip().startswith(mark)), 0)

    def _begin(self, whole: str) -> None:
        """Take the owner of the answer from its first line that is no blank one."""
        self._first = depth(whole)
        statement = self._extent.statement
        opened = self._hole.line_before.rstrip().endswith(("{", "(", "["))
        if statement is not None and (opened or not self._start):
            self._owner = Owner(statement, "")
        else:
            above = (owner for owner in self._extent.owners if owner.depth < depth(whole))
            self._owner = next(above, None)

    def _leaves(self, text: str, line: str) -> bool:
        """Whether a line that is no blank one stands outside of what was asked for."""
        if self._fence(line):
            return True
        if self._first is None:
            return False
        deep, head, owner = depth(line), line.strip(), self._owner
        if self._extent.kind == "free":
            base = max(depth(self._hole.line_before), self._first, 1)
            return self._blank and deep < base
        if owner is None or deep > owner.depth:
            lists = owner is None or (owner.kind == "list" and owner.depth != self._extent.last)
            return (lists and self._blank and deep <= self._first) or self._surplus(text, line)
        if _DIRECTIVE.match(head) or _quoted(text[: self._start]) != self._extent.quoted:
            return False
        if deep == owner.depth and _CLOSER.match(head):
            # Not where the lines below belong to the owner, or end it.
            next_ = self._below[0] if self._below else ""
            further = depth(next_) - deep
            return further > 0 or (further == 0 and _CLOSER.match(next_.strip()) is not None)
        if deep == owner.depth and (
            _GOES_ON.match(head) or (_CASE.match(head) and not _CASE.match(owner.word))
        ):
            return False
        return not self._defined(deep)

    def _defined(self, deep: int) -> bool:
        """Whether lines as deep still belong to the definition around the owner."""
        owner = self._owner
        if owner is None or self._extent.statement is not None:
            return False
        above = (one for one in self._extent.owners if one.depth <= owner.depth)
        around = next((one for one in above if one.kind != "block"), None)
        return around is not None and around.kind == "definition" and deep > around.depth

    def _fence(self, line: str) -> bool:
        return line.lstrip().startswith("```") and not self._fenced

    def _surplus(self, text: str, line: str) -> bool:
        """Whether a line begins with a bracket that ends what is ended below the cursor."""
        if not _CLOSER.match(line.strip()) or self._source.tree is None:
            return False
        before = text[: self._start]
        if lowest(before + line) >= 0:
            return False
        return self._errors(before + line) > self._errors(before)

    def _errors(self, text: str) -> int:
        return self._source.filled(self._offset, text).errors

    def _repeats(self, whole: str) -> int | None:
        """The answer's end where this line, or this and the last, are those below the cursor."""
        repeated, self._repeated = self._repeated, None
        if repeated is not None and whole == self._below[1]:
            return repeated
        if self._below and whole == self._below[0]:
            if len(self._below) == 1 and not _COMMON.match(whole):
                return self._kept
            if len(self._below) > 1:
                self._repeated = self._kept
        return None

    def _loop(self) -> int | None:
        """The end of the first of so many copies of the same lines."""
        lines = self._lines
        for size in range(1, len(lines) // COPIES + 1):
            if size > 4:
                break
            copy = lines[-size:]
            if any(re.search(r"\w", line) for line in copy) and all(
                lines[len(lines) - size * (n + 1) : len(lines) - size * n] == copy
                for n in range(1, COPIES)
            ):
                return self._ends[-size * (COPIES - 1) - 1]
        return None

    def _stutters(self, line: str) -> int | None:
        """The end of the first copy where a line ends in copies of the same few characters."""
        for size in range(1, min(SPAN, len(line)) // 2):
            unit = line[-size:]
            most = SPAN if size > 3 else DIGITS if any(map(str.isalnum, unit)) else RULER
            again = len(line) >= most and line.endswith(unit * (most // size + 1))
            if again and (size < 4 or len(set(unit)) > 3):
                start = len(line) - size
                while start > 0 and line[start - 1] == line[start - 1 + size]:
                    start -= 1
                return self._start + start + size
        return None

    def _told(self, tail: str) -> bool:
        """Whether enough of a line has arrived to tell how it begins."""
        return re.match(r"\s*(#\s|#?\w+\W|[^\w\s#])", tail) is not None


def below(hole: Hole) -> list[str]:
    """The next lines below the cursor; its own where the answer goes above it."""
    lines = hole.after.split("\n", 200)[:200]
    return lines if hole.inside_line and not hole.line_before else lines[1:]


def balance(text: str) -> int:
    """Opening less closing brackets."""
    return sum((char in "([{") - (char in ")]}") for char in text)


def lowest(text: str) -> int:
    """The lowest balance that `text` has from its beginning on."""
    return min(accumulate(((char in "([{") - (char in ")]}") for char in text), initial=0))


def _quoted(text: str) -> bool:
    """Whether a text ends within quotes, or a comment, that may hold line breaks."""
    return any(text.count(quotes) % 2 for quotes in ('"""', "'''", "`")) or text.count(
        "/*"
    ) > text.count("*/")
