"""What an editor may set."""

from typing import Any

import pytest

from magicoder.errors import UsageError
from magicoder.lsp import options


@pytest.mark.parametrize("nothing", [None, {}, []])
def test_nothing_gives_the_defaults(nothing: Any) -> None:
    read = options.read(nothing)
    assert read.settings.base_url == "http://127.0.0.1:8000/v1"
    assert read == options.Options(read.settings)
    assert (read.max_tokens, read.automatic, read.trusted) == (128, True, True)
    assert (read.keep_log, read.collect_seeds) == (False, False), "nothing is kept unasked"


def test_an_editor_stands_above_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGICODER_MODEL", "of-the-environment")
    monkeypatch.setenv("MAGICODER_TIMEOUT", "7")
    read = options.read({"model": "of-the-editor", "timeout": None, "max_tokens": 8})
    assert (read.settings.model, read.settings.timeout) == ("of-the-editor", 7)
    assert read.max_tokens == 8


def test_every_option_is_taken() -> None:
    given = {
        "max_tokens": 9,
        "automatic": False,
        "disabled_languages": ["markdown"],
        "exclude": ["*.sql", "!keep.sql", "/private/"],
        "trusted": False,
        "keep_log": True,
        "collect_seeds": True,
    }
    read = options.read(given)
    for key, value in given.items():
        assert getattr(read, key) == (tuple(value) if isinstance(value, list) else value)


def test_null_is_the_default() -> None:
    keys = set(options.Options.__dataclass_fields__) - {"settings"}
    assert options.read(dict.fromkeys(keys)) == options.read({})


def test_a_language_is_disabled_by_any_of_its_names() -> None:
    read = options.read({"disabled_languages": ["Bash", "typescriptreact", " MarkDown "]})
    assert all(map(read.disables, ("shellscript", "sh", "tsx", "markdown")))
    assert not any(map(read.disables, ("python", "typescript", "plaintext", "")))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"base_url": "not an address"}, "setting 'base_url'"),
        ({"timeout": -1}, "setting 'timeout'"),
        ({"model": 1}, "setting 'model'"),
        ({"max_tokens": "many"}, "setting 'max_tokens': expected a whole number from 1 to 4096"),
        ({"max_tokens": 0}, "setting 'max_tokens'"),
        ({"max_tokens": True}, "setting 'max_tokens'"),
        ({"automatic": 1}, "setting 'automatic': expected true or false"),
        ({"model": ""}, "expected a model's name; left out, it is the server's first"),
        ({"trusted": "no"}, "setting 'trusted': expected true or false"),
        ({"keep_log": "yes"}, "setting 'keep_log': expected true or false"),
        ({"collect_seeds": 0}, "setting 'collect_seeds': expected true or false"),
        (
            {"collect_seeds": True},
            "setting 'collect_seeds': the log finds the seeds; set 'keep_log'",
        ),
        ({"collect_seeds": True, "keep_log": False}, "set 'keep_log' as well"),
        ({"disabled_languages": "python"}, "setting 'disabled_languages': expected a list"),
        ({"disabled_languages": {"python": True}}, "setting 'disabled_languages': expected a list"),
        ({"disabled_languages": ["python", 3]}, "setting 'disabled_languages'"),
        ({"disabled_languages": [" "]}, "setting 'disabled_languages'"),
        ({"exclude": "*.env"}, "setting 'exclude': expected a list of globs"),
        ({"exclude": [None]}, "setting 'exclude'"),
        ({"exclude": ["ok", "!"]}, "setting 'exclude': '!' is no glob: write it as in .gitignore"),
        ({"exclude": ["[z-a]"]}, "setting 'exclude'"),
        ({"exclude": ["a["]}, "setting 'exclude'"),
        ({"exclude": ["a\nb"]}, "setting 'exclude'"),
        ({"exclude": ["# a comment"]}, "setting 'exclude'"),
        ({"url": "x"}, "unknown setting 'url': use one of base_url, api_key, model"),
        ({"cache_dir": "/"}, "unknown setting 'cache_dir'"),
        (["base_url"], "initializationOptions: expected an object"),
    ],
)
def test_what_cannot_be_used_is_named(given: Any, named: str) -> None:
    with pytest.raises(UsageError) as error:
        options.read(given)
    assert named in str(error.value)
