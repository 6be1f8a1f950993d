"""What an editor can set: initializationOptions, on top of MAGICODER_* and magicoder.toml."""

import re
from dataclasses import dataclass
from typing import Any

from magicoder import languages, settings
from magicoder.errors import UsageError, require

SHARED = ("base_url", "api_key", "model", "timeout")
"""Keys of the one settings object that an editor may set."""


@dataclass(frozen=True)
class Options:
    """How to reach the server, what to complete, and what may be kept.

    max_tokens: the longest completion; automatic: complete while the user types, else only when
    asked; disabled_languages: names or LSP ids that nothing is completed in, as `name` gives them;
    exclude: globs as in .gitignore, of files that never leave the machine; trusted: the user trusts
    the workspace, so that its code may be run; keep_log: write down what was shown and what of it
    stayed; collect_seeds: keep the code that stayed, for `magicoder data`.
    """

    settings: settings.Settings
    max_tokens: int = 128
    automatic: bool = True
    disabled_languages: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    trusted: bool = True
    keep_log: bool = False
    collect_seeds: bool = False

    def disables(self, language: str) -> bool:
        """Whether nothing is completed in `language`, an LSP id or a name."""
        return name(language) in self.disabled_languages


def name(language: str) -> str:
    """One name for all that a language is called: `sh`, `bash` and `shellscript` are `shell`."""
    known = languages.by_name(language)
    return known.name if known else language.strip().lower()


def read(given: Any) -> Options:
    """The options in what the editor sent: an object, or nothing.

    Raises:
        UsageError: a key is unknown, or its value cannot be used; names the key.
    """
    given = given or {}  # Lua sends an empty table as an empty list
    if not isinstance(given, dict):
        raise UsageError("initializationOptions: expected an object of settings")
    given = {key: value for key, value in given.items() if value is not None}
    known = [*SHARED, *(key for key in Options.__dataclass_fields__ if key != "settings")]
    if unknown := given.keys() - set(known):
        raise UsageError(f"unknown setting '{min(unknown)}': use one of {', '.join(known)}")
    max_tokens = given.get("max_tokens", Options.max_tokens)
    if type(max_tokens) is not int or not 1 <= max_tokens <= 4096:
        raise UsageError("setting 'max_tokens': expected a whole number from 1 to 4096")
    keep_log, collect_seeds = _switch(given, "keep_log"), _switch(given, "collect_seeds")
    if collect_seeds and not keep_log:
        raise UsageError("setting 'collect_seeds': the log finds the seeds; set 'keep_log' as well")
    return Options(
        settings.load(**{key: value for key, value in given.items() if key in SHARED}),
        max_tokens=max_tokens,
        automatic=_switch(given, "automatic"),
        disabled_languages=tuple(
            dict.fromkeys(map(name, _strings(given, "disabled_languages", "names of languages")))
        ),
        exclude=_globs(given, "exclude"),
        trusted=_switch(given, "trusted"),
        keep_log=keep_log,
        collect_seeds=collect_seeds,
    )


def _switch(given: dict[str, Any], key: str) -> bool:
    value = given.get(key)
    if value is None:
        return bool(getattr(Options, key))
    if not isinstance(value, bool):
        raise UsageError(f"setting '{key}': expected true or false")
    return value


def _strings(given: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    values = given.get(key) or ()
    if not isinstance(values, list | tuple) and values:
        raise UsageError(f"setting '{key}': expected a list of {what}")
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise UsageError(f"setting '{key}': expected a list of {what}, each a text")
    return tuple(values)


def _globs(given: dict[str, Any], key: str) -> tuple[str, ...]:
    globs = _strings(given, key, "globs")
    for glob in globs:
        if not _matches_something(glob):  # it would hide nothing, and its user think it did
            raise UsageError(f"setting '{key}': '{glob}' is no glob: write it as in .gitignore")
    return globs


def _matches_something(glob: str) -> bool:
    pathspec = require("pathspec", "lsp")
    try:
        patterns = pathspec.GitIgnoreSpec.from_lines([glob]).patterns
    except (ValueError, re.error):
        return False
    return "\n" not in glob and all(pattern.include is not None for pattern in patterns)
