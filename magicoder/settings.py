"""One settings object: flags, then MAGICODER_* variables, then magicoder.toml, then defaults."""

import re
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path, user_config_path
from pydantic import AnyHttpUrl, Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from magicoder.errors import MagicoderError, UsageError

FILE = "magicoder.toml"
PRIVATE = {"base_url", "api_key", "cache_dir"}
"""Settings that the current folder's file may not make: only the user's own file may."""


class Settings(BaseSettings):
    """Where the server is, how to ask it, and where things come from. `load` gives an instance."""

    model_config = SettingsConfigDict(
        env_prefix="MAGICODER_", extra="forbid", frozen=True, env_ignore_empty=True
    )

    base_url: str = Field(
        "http://127.0.0.1:8000/v1", description="an http(s) address that ends in /v1"
    )
    api_key: SecretStr | None = Field(
        None, description="the server's key, of ASCII characters without blanks"
    )
    model: str | None = Field(
        None, pattern=r"\S", description="a model's name; left out, it is the server's first"
    )
    timeout: float = Field(120.0, gt=0, description="seconds to wait for an answer, more than 0")
    benchmarks: str = Field("hub", description="hub, or the folder that holds benchmarks")
    embedding: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="a sentence-transformers model, by its hub's name or a folder",
    )
    cache_dir: Path = Field(
        default_factory=lambda: user_cache_path("magicoder"),
        description="the folder that keeps models",
    )

    @field_validator("base_url")
    @classmethod
    def _http(cls, url: str) -> str:
        TypeAdapter(AnyHttpUrl).validate_python(url)
        return url.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _header(cls, key: SecretStr | None) -> SecretStr | None:
        if key and not re.fullmatch(r"[!-~]*", key.get_secret_value()):
            raise ValueError("no HTTP header can hold it")
        return key

    @field_validator("cache_dir")
    @classmethod
    def _home(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = (_read(path) for path in files_read() if path.is_file())
        return init_settings, env_settings, *files


def files_read() -> tuple[Path, Path]:
    """The settings files, the first one winning: the current folder's, then the user's own."""
    return Path.cwd() / FILE, user_config_path("magicoder") / FILE


def _read(path: Path) -> TomlConfigSettingsSource:
    try:
        source = TomlConfigSettingsSource(Settings, toml_file=path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}: mend the file or remove it") from None
    own = files_read()[-1]
    # A stranger's repository must not say where code and keys go.
    if path != own and (private := sorted(PRIVATE & source().keys())):
        raise UsageError(f"{path} may not set '{private[0]}': set it in {own} or the environment")
    return source


def load(**flags: Any) -> Settings:
    """The settings, with every flag that is not None on top.

    Raises:
        UsageError: a value cannot be used; names the key and what it expects.
    """
    try:
        return Settings(**{key: value for key, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        field = Settings.model_fields.get(key)
        if field is None:
            known = ", ".join(Settings.model_fields)
            raise UsageError(f"{FILE}: unknown key '{key}': use one of {known}") from None
        raise UsageError(
            f"setting '{key}' (MAGICODER_{key.upper()} or {FILE}): expected {field.description}"
        ) from None


def origins() -> dict[str, str]:
    """Where each setting comes from: a variable's name, a file's path, or "default"."""
    found = dict.fromkeys(Settings.model_fields, "default")
    for path in reversed(files_read()):
        if path.is_file():
            found |= dict.fromkeys(_read(path)(), str(path))
    return found | {key: f"MAGICODER_{key.upper()}" for key in EnvSettingsSource(Settings)()}


def cache_dir() -> Path:
    """The folder that keeps models; made if it is missing.

    Raises:
        MagicoderError: it cannot be made.
    """
    path = load().cache_dir
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MagicoderError(
            f"the folder {path} cannot be made ({error.strerror}): set MAGICODER_CACHE_DIR"
        ) from None
    return path
