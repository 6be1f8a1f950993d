"""What an editor may set."""

from typing import Any

import pytest

from magicoder.errors import UsageError
from magicoder.lsp import options


@pytest.mark.parametrize("nothing", [None, {}, []])
def test_nothing_gives_the_defaults(nothing: Any) -> None:
    read = options.read(nothing)
    assert read.settings.base_url == "http://127.0.0.1:8000/v1"
    assert read.max_tokens == 64


def test_an_editor_stands_above_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGICODER_MODEL", "of-the-environment")
    monkeypatch.setenv("MAGICODER_TIMEOUT", "7")
    read = options.read({"model": "of-the-editor", "timeout": None, "max_tokens": 8})
    assert (read.settings.model, read.settings.timeout) == ("of-the-editor", 7)
    assert read.max_tokens == 8


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"base_url": "not an address"}, "setting 'base_url'"),
        ({"timeout": -1}, "setting 'timeout'"),
        ({"model": 1}, "setting 'model'"),
        ({"max_tokens": "many"}, "setting 'max_tokens': expected a whole number from 1 to 4096"),
        ({"max_tokens": 0}, "setting 'max_tokens'"),
        ({"max_tokens": True}, "setting 'max_tokens'"),
        ({"url": "x"}, "unknown setting 'url': use one of base_url, api_key, model"),
        ({"cache_dir": "/"}, "unknown setting 'cache_dir'"),
        (["base_url"], "initializationOptions: expected an object"),
    ],
)
def test_what_cannot_be_used_is_named(given: Any, named: str) -> None:
    with pytest.raises(UsageError) as error:
        options.read(given)
    assert named in str(error.value)
