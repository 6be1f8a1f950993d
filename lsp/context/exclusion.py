"""What never leaves the machine: ignored and secret-looking files, huge and binary ones."""

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from pathlib import Path

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

LARGEST = 1_000_000
"""Characters of a file at most; also bytes, of one on the disk."""

LONGEST = 400
"""Characters of a line on average at most: what is longer is generated."""

TRUSTED_FOR = 2.0
"""Seconds for which a path's verdict holds, since its ignore files are read from the disk."""

_NAMES = (
    ".env .env.* *.env .envrc *.pem *.key *.p8 *.p12 *.pfx *.jks *.keystore *.kdb *.kdbx *.gpg "
    "*.ppk *.ovpn id_rsa* id_dsa* id_ecdsa* id_ed25519* credentials credentials.* secrets.* "
    ".netrc _netrc .npmrc .pypirc .pgpass .my.cnf .htpasswd .dockercfg "
    ".git-credentials .vault-token *.tfvars *.tfstate *.tfstate.* kubeconfig service-account*.json"
)
_HARMLESS = re.compile(r"\.env\.(example|sample|template|dist|defaults?)")
_SECRET = re.compile("|".join(map(translate, _NAMES.split())))
_SECRET_FOLDERS = {".ssh", ".aws", ".gnupg", ".kube", ".azure"}
_PRIVATE_KEY = re.compile("-----BEGIN [A-Z ]*PRIVATE KEY")

SKIPPED_FOLDERS = {
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".mypy_cache",
    ".pytest_cache", ".ruff_cache", "site-packages", "dist-packages", ".gradle", ".terraform",
}  # fmt: skip
"""Folders that the index never enters: not the user's own code."""


Patterns = list[GitIgnoreSpecPattern]


class Exclusions:
    """Says why a file must not be sent.

    roots: the workspace's folders.
    patterns: the user's own, in the syntax of .gitignore, from each root.
    """

    def __init__(self, roots: Sequence[Path], patterns: Sequence[str]) -> None:
        self._roots = [Path(os.path.realpath(root)) for root in roots]
        self._own = _patterns(patterns)
        self._specs: dict[Path, tuple[int, Patterns]] = {}
        self._tops: dict[Path, Path | None] = {}
        self._verdicts: dict[Path, tuple[float, str | None]] = {}

    def reason(self, path: Path | None, text: str | None = None) -> str | None:
        """Why the file at `path` with this `text` must stay here, in a few words; None: it may go.

        An untitled document has no path.
        """
        why = self._of_path(path) if path is not None else None
        return why or (_of_text(text) if text is not None else None)

    def enters(self, folder: Path) -> bool:
        """Whether any file below `folder` may be read."""
        return self._named(folder, is_folder=True) is None

    def _of_path(self, path: Path) -> str | None:
        now = time.monotonic()
        known = self._verdicts.get(path)
        if known is not None and now < known[0]:
            return known[1]
        if len(self._verdicts) > 10_000:
            self._verdicts.clear()
        real = Path(os.path.realpath(path))
        why = next(filter(None, (self._verdict(each) for each in {path: 0, real: 0})), None)
        self._verdicts[path] = now + TRUSTED_FOR, why
        return why

    def _verdict(self, path: Path) -> str | None:
        if secret(path):
            return "it may hold secrets"
        if why := self._named(path, is_folder=False):
            return why
        try:
            return "it is too large" if path.stat().st_size > LARGEST else None
        except OSError:  # not written yet
            return None

    def _named(self, path: Path, *, is_folder: bool) -> str | None:
        """Why patterns exclude `path`; None: they do not."""
        root = next((root for root in self._roots if path.is_relative_to(root)), None)
        inside = path.relative_to(root or path.anchor)
        if _excluded(inside, is_folder, lambda folder: [] if folder.parts else self._own):
            return "the settings exclude it"
        top = self._top(path.parent)
        if top is not None and _excluded(
            path.relative_to(top), is_folder, lambda folder: self._ignored(top / folder)
        ):
            return "a .gitignore names it"
        return None

    def _top(self, folder: Path) -> Path | None:
        """Where ignore files begin to count: the repository's folder, or else the root."""
        if folder not in self._tops:
            up = (folder, *folder.parents)
            git = next((each for each in up if (each / ".git").exists()), None)
            root = next((each for each in self._roots if folder.is_relative_to(each)), None)
            self._tops[folder] = git or root
        return self._tops[folder]

    def _ignored(self, folder: Path) -> Patterns:
        """The patterns of a folder's .gitignore."""
        file = folder / ".gitignore"
        try:
            changed = file.stat().st_mtime_ns
            known = self._specs.get(folder)
            if known is None or known[0] != changed:
                lines = file.read_text(errors="replace").splitlines()
                known = self._specs[folder] = changed, _patterns(lines)
        except OSError:
            return []
        return known[1]


def secret(path: Path) -> bool:
    """Whether a file's name says that it may hold keys or passwords."""
    name = path.name.lower()
    if not _SECRET_FOLDERS.isdisjoint(path.parts[:-1]):
        return True
    return bool(_SECRET.fullmatch(name)) and not _HARMLESS.fullmatch(name)


def _of_text(text: str) -> str | None:
    if len(text) > LARGEST:
        return "it is too large"
    if len(text) > 10 * LONGEST and len(text) > LONGEST * (text.count("\n") + 1):
        return "its lines are too long: it looks generated"
    if "\0" in text:
        return "it is not text"
    return "it holds a private key" if _PRIVATE_KEY.search(text) else None


def _patterns(lines: Iterable[str]) -> Patterns:
    """What git would read: a line that it cannot, counts for nothing."""
    found = []
    for line in lines:
        try:
            pattern = GitIgnoreSpecPattern(line)
        except (ValueError, re.error):
            continue
        if pattern.include is not None:
            found.append(pattern)
    return found


def _excluded(path: Path, is_folder: bool, patterns: Callable[[Path], Patterns]) -> bool:
    """As git decides: a file in an ignored folder is ignored, whatever else says.

    path: relative to where ignore files begin to count.
    patterns: those that a folder, also relative, adds.
    """
    up = [path, *path.parents][:-1]
    return any(_named(each, is_folder or each != path, patterns) for each in reversed(up))


def _named(path: Path, is_folder: bool, patterns: Callable[[Path], Patterns]) -> bool:
    """Whether patterns name this very path: the nearest folder's count first, the last line most"""
    for folder in path.parents:
        relative = path.relative_to(folder).as_posix()
        for pattern in reversed(patterns(folder)):
            if _matches(pattern, relative, is_folder):
                return bool(pattern.include)
    return False


def _matches(pattern: GitIgnoreSpecPattern, path: str, is_folder: bool) -> bool:
    assert pattern.regex is not None  # noqa: S101
    of_folders = str(pattern.pattern).rstrip().endswith("/")
    text = f"{path}/" if is_folder and of_folders else path
    # pathspec's one group is the end of a folder that the pattern names: the path itself, or above.
    return any(
        match.lastindex is None or match.end(match.lastindex) == len(text)
        for match in pattern.regex.finditer(text)
    )
