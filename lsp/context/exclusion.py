"""What never leaves the machine: ignored and secret-looking files, huge and binary ones."""

import os
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from pathlib import Path

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

LARGEST = 1_000_000
"""Characters of a file at most; also bytes, of one on the disk."""

LONGEST = 400
"""Characters of a line on average at most: what is longer is generated."""

LINE = 20_000
"""Characters of one line at most: what is longer is generated."""

IGNORED = 200_000, 2_000
"""Bytes and patterns of an ignore file that are read; one with more excludes its whole folder."""

TRUSTED_FOR = 2.0
"""Seconds for which a path's verdict holds, since its ignore files are read from the disk."""

_NAMES = (
    ".env .env[._-]* *.env .envrc *.pem *.key *.p8 *.p12 *.pfx *.jks *.keystore *.kdb *.kdbx "
    "*.gpg *.ppk *.ovpn id_rsa* id_dsa* id_ecdsa* id_ed25519* credentials credentials.* secret.* "
    "secrets.* client_secret*.json .s3cfg .*_history .netrc _netrc .npmrc .pypirc .pgpass .my.cnf "
    ".htpasswd .dockercfg .git-credentials .vault-token *.tfvars *.tfvars*.json *.tfstate "
    "*.tfstate.* kubeconfig service-account*.json wp-config*.php localsettings.php "
    "secret_token.rb *.psafe3 *credentials*.json *credentials*.csv password.txt password.csv "
    "*passwords.txt *passwords.csv .vault_pass* *.pkcs12 .boto .esmtprc .msmtprc .ftpconfig "
    ".remote-sync.json sftp.json sftp-config.json logins.json filezilla.xml recentservers.xml "
    "dbeaver-data-sources.xml robomongo.json proftpdpasswd private_key* apikeys.txt api_keys* "
    "key.json token.txt htpasswd *firebase-adminsdk*.json"
)
"""Of the signatures of gitrob and the files of leaky-repo, those that hold little else."""

_HARMLESS = re.compile(r"\.env\.(example|sample|template|dist|defaults?)|wp-config-sample\.php")
_SECRET = re.compile("|".join(map(translate, _NAMES.split())))
_SECRET_FOLDERS = {".ssh", ".aws", ".gnupg", ".kube", ".azure", ".env"}
_SECRET_IN = {
    (".docker", "config.json"), ("gh", "hosts.yml"), ("gh", "hosts.yaml"),
    ("etc", "passwd"), ("etc", "shadow"),
}  # fmt: skip
_COPY = re.compile(r"(~|\.(old|orig|bak|backup|save|copy|swp|tmp))+$")
_PRIVATE_KEY = re.compile("-----BEGIN [A-Z ]*PRIVATE KEY")

SKIPPED_FOLDERS = {
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".mypy_cache",
    ".pytest_cache", ".ruff_cache", "site-packages", "dist-packages", ".gradle", ".terraform",
}  # fmt: skip
"""Folders that the index never enters: not the user's own code."""


@dataclass(frozen=True)
class _Pattern:
    """A line of an ignore file; `folders`: it names nothing else."""

    regex: re.Pattern[str]
    include: bool
    folders: bool


Patterns = list[_Pattern]


@dataclass(frozen=True)
class _Verdict:
    """What a path's name says until a time; `real`: where its links lead."""

    until: float
    why: str | None
    real: Path


class Exclusions:
    """Says why a file must not be sent.

    roots: the workspace's folders.
    patterns: the user's own, in the syntax of .gitignore, from each root.
    """

    def __init__(self, roots: Sequence[Path], patterns: Sequence[str]) -> None:
        self._roots = [Path(os.path.realpath(root)) for root in roots]
        self._own = _patterns(patterns)
        self._specs: dict[Path, tuple[int, Patterns]] = {}
        self._tops: dict[Path, list[tuple[Path, Path]]] = {}
        self._verdicts: dict[Path, _Verdict] = {}
        self._texts: dict[Path, str] = {}
        self._everywhere = _everywhere()

    def reason(self, path: Path, text: str | None = None) -> str | None:
        """Why the file at `path` must stay here, in a few words; None: it may go.

        path: a relative one is the name of a document that is no file.
        text: all of the file. What it says holds until other text is given: a piece of a file
            that holds a private key is then kept back by the path alone.
        """
        said = _of_text(text) if text is not None else None
        if not path.is_absolute():
            return "it may hold secrets" if secret(path) else said
        verdict = self._of_path(path)
        if said is not None:
            self._texts[verdict.real] = said
        elif text is not None:
            self._texts.pop(verdict.real, None)
        return verdict.why or self._texts.get(verdict.real)

    def enters(self, folder: Path) -> bool:
        """Whether any file below `folder` may be read."""
        return self._named(folder, is_folder=True) is None

    def _of_path(self, path: Path) -> _Verdict:
        now = time.monotonic()
        known = self._verdicts.get(path)
        if known is not None and now < known.until:
            return known
        if len(self._verdicts) > 10_000:
            self._verdicts.clear()
        real = Path(os.path.realpath(path))
        why = next(filter(None, (self._verdict(each) for each in {path: 0, real: 0})), None)
        known = self._verdicts[path] = _Verdict(now + TRUSTED_FOR, why, real)
        return known

    def _verdict(self, path: Path) -> str | None:
        if secret(path):
            return "it may hold secrets"
        if why := self._named(path, is_folder=False):
            return why
        try:
            found = path.stat()
        except OSError:  # not written yet
            return None
        if not stat.S_ISREG(found.st_mode):
            return "it is no regular file"
        return "it is too large" if found.st_size > LARGEST else None

    def _named(self, path: Path, *, is_folder: bool) -> str | None:
        """Why patterns exclude `path`; None: they do not."""
        roots = [root for root in self._roots if path.is_relative_to(root)]
        for root in roots or [Path(path.anchor)]:
            inside = path.relative_to(root)
            if _excluded(inside, is_folder, lambda folder: [] if folder.parts else self._own):
                return "the settings exclude it"
        for top, git in self._enclosing(path.parent):
            if _excluded(path.relative_to(top), is_folder, self._reader(top, git)):
                return "a .gitignore names it"
        return None

    def _enclosing(self, folder: Path) -> list[tuple[Path, Path]]:
        """Where ignore files begin to count, each with git's own folder there.

        Every repository up to the root, or else the one around it, or else the root.
        """
        if folder not in self._tops:
            up = [folder, *folder.parents]
            roots = [each for each in up if each in self._roots]
            held = [each for each in up if (each / ".git").exists()]
            inner = [each for each in held if roots and each.is_relative_to(roots[-1])]
            self._tops[folder] = [(top, _git(top)) for top in inner or held[:1] or roots[-1:]]
        return self._tops[folder]

    def _reader(self, top: Path, git: Path) -> Callable[[Path], Patterns]:
        """What gives the patterns that a folder, relative to `top`, adds; the last count most."""

        def read(folder: Path) -> Patterns:
            file = top / folder / ".gitignore"
            found = [] if file.is_symlink() else self._read(file)  # git follows no link here
            if folder.parts:
                return found
            common = [self._everywhere, git / "info" / "exclude"]
            return [each for file in common for each in self._read(file)] + found

        return read

    def _read(self, file: Path) -> Patterns:
        """The patterns of an ignore file."""
        try:
            found = file.stat()
            known = self._specs.get(file)
            if known is None or known[0] != found.st_mtime_ns:
                content = _content(file, IGNORED[0])
                lines = ["*"] if content is None else content.split("\n")
                if len(lines) > IGNORED[1]:
                    lines = ["*"]
                known = self._specs[file] = found.st_mtime_ns, _patterns(lines)
        except OSError:
            return []
        return known[1]


def secret(path: Path) -> bool:
    """Whether a file's name says that it may hold keys or passwords."""
    *folders, name = path.as_posix().lower().split("/")
    if not _SECRET_FOLDERS.isdisjoint(folders) or (*folders[-1:], name) in _SECRET_IN:
        return True
    name = _COPY.sub("", name.strip("#"))  # an editor's copy, or one by hand
    return bool(_SECRET.fullmatch(name)) and not _HARMLESS.fullmatch(name)


@lru_cache(maxsize=2)  # several ask about the same text at each key
def _of_text(text: str) -> str | None:
    if len(text) > LARGEST:
        return "it is too large"
    if len(text) > 10 * LONGEST and len(text) > LONGEST * (text.count("\n") + 1):
        return "its lines are too long: it looks generated"
    at = 0
    while len(text) - at > LINE:
        at = text.rfind("\n", at, at + LINE + 1) + 1
        if not at:
            return "a line is too long: it looks generated"
    if "\0" in text:
        return "it is not text"
    return "it holds a private key" if _PRIVATE_KEY.search(text) else None


def _content(file: Path, most: int) -> str | None:
    """A small file's text; None where it is larger than `most` bytes.

    Raises:
        OSError: it is gone, or no regular file: such may never end.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError("no regular file")
    with file.open("rb") as opened:
        content = opened.read(most + 1)
    return None if len(content) > most else content.decode("utf-8-sig", errors="replace")


def _git(top: Path) -> Path:
    """The folder where git keeps what all worktrees of the repository at `top` share."""
    git = top / ".git"
    with suppress(OSError):
        if git.is_file() and (content := _content(git, 5000)):
            git = top / content.removeprefix("gitdir:").strip()
            if shared := _content(git / "commondir", 5000):
                git = git / shared.strip()
    return git


def _everywhere() -> Path:
    """The user's ignore file for all repositories."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "config", "--global", "--path", "--get", "core.excludesFile"]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=2,
        )
        return Path(done.stdout.rstrip("\n"))
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "git" / "ignore"


def _patterns(lines: Iterable[str]) -> Patterns:
    """What git would read: a line that it cannot, counts for nothing."""
    found = []
    for line in lines:
        if len(line) > 4096:  # longer than any path
            continue
        try:
            pattern = GitIgnoreSpecPattern(line)
        except (ValueError, re.error):
            continue
        if pattern.include is not None and pattern.regex is not None:
            regex = re.compile(_bounded(pattern.regex.pattern))
            found.append(_Pattern(regex, pattern.include, line.rstrip().endswith("/")))
    return found


_STAR, _FOLDERS, _ANYWHERE = "[^/]*", "(?:/.+)?", "^(?:.+/)?"


def _bounded(regex: str) -> str:
    """pathspec's expression of a pattern, so that many stars cost no exponential time.

    All but the last star of a name, and all but the last `**`, may take the first match and keep
    it: whatever follows a later match follows the first one too.
    """
    first, *pieces = regex.split(_STAR)
    for i, piece in enumerate(pieces, 1):
        in_name = i < len(pieces) and "/" not in piece.replace("[^/]", "")
        first += f"(?>[^/]*?{piece})" if in_name else _STAR + piece
    first, *pieces = first.split(_FOLDERS)
    if pieces and first.startswith(_ANYWHERE):
        first = f"^(?>(?:[^/]+/)*?{first.removeprefix(_ANYWHERE)}(?=/))"
    for i, piece in enumerate(pieces, 1):
        first += _FOLDERS + piece if i == len(pieces) else f"(?>(?:/[^/]+)*?{piece}(?=/))"
    return first


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


def _matches(pattern: _Pattern, path: str, is_folder: bool) -> bool:
    text = f"{path}/" if is_folder and pattern.folders else path
    # pathspec's one group is the end of a folder that the pattern names: the path itself, or above.
    return any(
        match.lastindex is None or match.end(match.lastindex) == len(text)
        for match in pattern.regex.finditer(text)
    )
