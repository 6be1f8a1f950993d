"""One settings object: flags, then MAGICODER_* variables, then magicoder.toml, then defaults."""

from pathlib import Path
from typing import Any

from platformdirs import user_cache_path, user_config_path
from pydantic import AnyHttpUrl, Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from magicoder.errors import UsageError

FILE = "magicoder.toml"


class Settings(BaseSettings):
    """Where the server is and how to ask it. Read `load`, not this class, to get an instance."""

    model_config = SettingsConfigDict(
        env_prefix="MAGICODER_", extra="forbid", frozen=True, env_ignore_empty=True
    )

    base_url: str = Field(
        "http://127.0.0.1:8000/v1", description="an http(s) address that ends in /v1"
    )
    api_key: SecretStr | None = Field(None, description="the server's key, if it asks for one")
    model: str | None = Field(None, description="a model's name; none takes the server's first")
    timeout: float = Field(120.0, gt=0, description="seconds to wait for an answer")
    cache_dir: Path = Field(
        default_factory=lambda: user_cache_path("magicoder"),
        description="the folder that keeps models",
    )

    @field_validator("base_url")
    @classmethod
    def _http(cls, url: str) -> str:
        TypeAdapter(AnyHttpUrl).validate_python(url)
        return url.rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = [path for path in files_read() if path.is_file()]
        toml = TomlConfigSettingsSource(settings_cls, toml_file=files)
        return init_settings, env_settings, toml


def files_read() -> tuple[Path, Path]:
    """The settings files, the later one winning: the user's own, then the current folder's."""
    return user_config_path("magicoder") / FILE, Path.cwd() / FILE


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
    except ValueError as error:  # a file that is not TOML
        raise UsageError(f"{FILE} cannot be read: {error}: mend the file or remove it") from None


def cache_dir() -> Path:
    """The folder that keeps models; made if it is missing."""
    path = load().cache_dir
    path.mkdir(parents=True, exist_ok=True)
    return path
