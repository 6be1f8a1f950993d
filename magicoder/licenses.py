"""Licences as SPDX expressions: read, recognised, and held against an allow-list."""

import re
from collections.abc import Callable, Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from magicoder.errors import UsageError, require

_ALIASES = {
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "apachev2": "Apache-2.0",
    "boost": "BSL-1.0",
    "boost-1.0": "BSL-1.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd-2": "BSD-2-Clause",
    "bsd-3": "BSD-3-Clause",
    "expat": "MIT",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mit/x11": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "new bsd": "BSD-3-Clause",
    "python software foundation license": "PSF-2.0",
    "the mit license": "MIT",
    "the mit license (mit)": "MIT",
    "the unlicense (unlicense)": "Unlicense",
}
"""Names that packages use beside SPDX's own, in lower case; "BSD" alone may be several licences."""

_HEADER = re.compile(r"SPDX-License-Identifier:[ \t]*([\w.+\- \t()]+)")
_HEAD = 2000  # characters of a file in which a licence header is looked for
_FILE = re.compile(r"(LICEN[CS]E|COPYING|UNLICENSE)([-_.].*)?", re.IGNORECASE)
_GNU = re.compile(r"\b(A?GPL|LGPL)-(\d)(\.\d)?(\+)?(?![\w.-])", re.IGNORECASE)


def normalise(text: str) -> str:
    """The SPDX expression that `text` means, or "" where it is not clear.

    Takes expressions in any case, Debian's short names, and the common names of packages.
    """
    text = " ".join(text.replace(",", " ").split()).rstrip(".")
    if not text or len(text) > 200:
        return ""
    named = _ALIASES.get(text.lower(), text)
    parts = re.split(r"(\s+(?:and|or|with)\s+|[()]|/)", named, flags=re.IGNORECASE)
    words = ("or" if part == "/" else _ALIASES.get(part.strip().lower(), part) for part in parts)
    parsed = _parse(_GNU.sub(_gnu, " ".join(words)))
    return "" if parsed is None else str(parsed)


def _gnu(match: "re.Match[str]") -> str:
    """Debian's GPL-2+ is SPDX's GPL-2.0-or-later."""
    name, major, minor, later = match.groups()
    return f"{name}-{major}{minor or '.0'}-{'or-later' if later else 'only'}"


def recognise(file: Path) -> str:
    """The SPDX identifier of a licence's text, told by `identify` within 5%, or ""."""
    try:
        found = require("identify.identify", "data").license_id(str(file))
    except UnicodeDecodeError:
        return ""
    return normalise(found) if found else ""


def header(text: str) -> str | None:
    """The SPDX expression in the header of a source file; "" where it is none, None without one."""
    found = _HEADER.search(text[:_HEAD])
    return normalise(found[1]) if found else None


def nearest(root: Path) -> Callable[[str], str]:
    """Tells a path's licence by the licence files of its folder, or of the nearest one above."""
    known: dict[Path, str] = {}

    def of(folder: Path) -> str:
        if folder not in known:
            names = sorted(
                path
                for path in folder.iterdir()
                if _FILE.fullmatch(path.name) and path.is_file() and not path.is_symlink()
            )
            if names:
                known[folder] = either(recognise(path) for path in names)
            else:
                known[folder] = of(folder.parent) if folder != root else ""
        return known[folder]

    return lambda path: of((root / path).parent)


def either(expressions: Iterable[str]) -> str:
    """One that allows any of `expressions`; "" where one is unknown."""
    return _joined(" OR ", expressions)


def all_of(expressions: Iterable[str]) -> str:
    """One that demands all of `expressions`; "" where one is unknown."""
    return _joined(" AND ", expressions)


def _joined(operator: str, expressions: Iterable[str]) -> str:
    unlike = list(dict.fromkeys(expressions))
    if not all(unlike) or len(unlike) < 2:
        return unlike[0] if len(unlike) == 1 else ""
    return str(_parse(operator.join(f"({expression})" for expression in unlike)))


def refusal(expression: str, allowed: Collection[str]) -> str | None:
    """Why a document under `expression` may not be used, or None.

    `allowed` holds SPDX identifiers and the words "permissive" (what ScanCode's index calls
    permissive or public domain) and "any". An AND needs all of its parts, an OR one; an exception
    (WITH) only ever adds permissions.
    """
    if "any" in allowed:
        return None
    if not expression or (parsed := _parse(expression)) is None:
        return "license unknown"
    return None if _holds(parsed, _expanded(frozenset(allowed))) else "license not allowed"


def check(allowed: Iterable[str]) -> tuple[str, ...]:
    """The allow-list with each identifier as SPDX writes it.

    Raises:
        UsageError: one is neither an SPDX identifier nor one of the two words.
    """
    found = []
    for name in allowed:
        known = name.lower() if name.lower() in ("permissive", "any") else normalise(name)
        if not known or " " in known:
            raise UsageError(f"no license '{name}': use SPDX identifiers, 'permissive' or 'any'")
        found.append(known)
    return tuple(found)


def _holds(expression: Any, allowed: frozenset[str]) -> bool:
    kind = type(expression).__name__
    if kind in ("AND", "OR"):
        return (all if kind == "AND" else any)(_holds(arg, allowed) for arg in expression.args)
    symbol = getattr(expression, "license_symbol", expression)
    return symbol.key in allowed


@cache
def _expanded(allowed: frozenset[str]) -> frozenset[str]:
    if "permissive" not in allowed:
        return allowed
    index = require("license_expression", "data").get_license_index()
    permissive = (
        entry["spdx_license_key"]
        for entry in index
        if entry.get("category") in ("Permissive", "Public Domain") and "spdx_license_key" in entry
    )
    return allowed | frozenset(permissive)


@cache
def _licensing() -> Any:
    return require("license_expression", "data").get_spdx_licensing()


@cache
def _parse(expression: str) -> Any:
    """The expression's tree, or None where it is not SPDX."""
    try:
        return _licensing().parse(expression, validate=True)
    except require("license_expression", "data").ExpressionError:
        return None
    except require("boolean", "data").ParseError:
        return None
