"""Settings: arguments over variables over files over defaults, and errors that name the mend."""

from pathlib import Path

import pytest

from magicoder import settings
from magicoder.errors import MagicoderError, UsageError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and current folder, and none of the user's variables."""
    for key in settings.Settings.model_fields:
        monkeypatch.delenv(f"MAGICODER_{key.upper()}", raising=False)
    (tmp_path / "config" / "magicoder").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_each_source_wins_over_the_next(home: Path, monkeypatch: pytest.MonkeyPatch):
    users = home / "config" / "magicoder" / "magicoder.toml"
    here = home / "work" / "magicoder.toml"
    assert settings.load().model is None
    assert settings.origins()["model"] == "default"
    users.write_text('model = "users"\ntimeout = 7\n')
    assert settings.load().model == "users"
    assert settings.origins()["model"] == str(users)
    here.write_text('model = "here"\n')
    assert settings.load().model == "here"
    assert settings.origins()["model"] == str(here)
    monkeypatch.setenv("MAGICODER_MODEL", "variable")
    assert settings.load().model == "variable"
    assert settings.origins()["model"] == "MAGICODER_MODEL"
    assert settings.load(model="flag").model == "flag"
    assert settings.load().timeout == 7  # the files are merged key by key
    assert settings.origins()["timeout"] == str(users)


def test_a_flag_that_is_none_or_a_variable_that_is_empty_does_not_count(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MAGICODER_MODEL", "")
    (home / "work" / "magicoder.toml").write_text('model = "here"\n')
    assert settings.load(model=None).model == "here"
    assert settings.origins()["model"] == str(home / "work" / "magicoder.toml")


def test_the_address_loses_its_last_slash_and_the_key_is_not_shown():
    loaded = settings.load(base_url="https://example.org/v1/", api_key="secret")
    assert loaded.base_url == "https://example.org/v1"
    assert loaded.api_key is not None
    assert loaded.api_key.get_secret_value() == "secret"
    assert "secret" not in repr(loaded)


def test_the_cache_folder_is_absolute_and_a_tilde_is_the_home(home: Path):
    own = settings.files_read()[-1]
    own.write_text('cache_dir = "~/models"\n')
    assert settings.cache_dir() == home / "models"
    assert (home / "models").is_dir()
    assert settings.load(cache_dir="here").cache_dir == home / "work" / "here"


def test_a_cache_folder_that_cannot_be_made_is_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    (home / "file").write_text("")
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(home / "file" / "cache"))
    with pytest.raises(MagicoderError, match="set MAGICODER_CACHE_DIR"):
        settings.cache_dir()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base_url", "not an address"),
        ("base_url", "ftp://example.org/v1"),
        ("timeout", "soon"),
        ("timeout", "0"),
        ("timeout", "-1"),
        ("timeout", "nan"),
        ("model", " "),
        ("api_key", "schlüssel"),
        ("api_key", "two words"),
        ("api_key", "abc\n"),
    ],
)
def test_a_bad_value_names_its_key_and_what_it_expects(
    key: str, value: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(f"MAGICODER_{key.upper()}", value)
    with pytest.raises(UsageError) as caught:
        settings.load()
    message = str(caught.value)
    assert f"MAGICODER_{key.upper()}" in message
    assert str(settings.Settings.model_fields[key].description) in message
    assert "\n" not in message


def test_an_unknown_key_names_the_known_ones(home: Path):
    (home / "work" / "magicoder.toml").write_text('modle = "x"\n')
    with pytest.raises(UsageError, match=r"unknown key 'modle': use one of base_url, .*model"):
        settings.load()


@pytest.mark.parametrize("key", ["base_url", "api_key", "cache_dir"])
def test_a_strangers_folder_may_not_say_where_code_and_keys_go(home: Path, key: str):
    (home / "work" / "magicoder.toml").write_text(f'{key} = "http://127.0.0.1:9/v1"\n')
    with pytest.raises(UsageError, match=f"may not set '{key}': set it in .*magicoder.toml or the"):
        settings.load()


@pytest.mark.parametrize("text", [b"model = [", b"\xff\xfe", b"= 3"])
def test_a_file_that_is_not_toml_is_named(home: Path, text: bytes):
    bad = home / "config" / "magicoder" / "magicoder.toml"
    bad.write_bytes(text)
    with pytest.raises(UsageError) as caught:
        settings.load()
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)
