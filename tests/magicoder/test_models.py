"""The catalogue, how names resolve, chat templates to the letter, and fetching from a hub."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from magicoder import embedded, fim, models, prompts
from magicoder.errors import MagicoderError, UsageError

jinja2 = pytest.importorskip("jinja2")


# --- the catalogue ---


def test_the_catalogue_knows_the_families():
    names = set(models.CATALOGUE)
    assert models.DEFAULT in names
    assert {"magicoder-cl-7b", "magicoder-s-cl-7b"} <= names
    assert {"magicoder-ds-6.7b", "magicoder-s-ds-6.7b"} <= names
    families = ("codellama", "deepseek", "starcoder2", "qwen2.5", "codegemma", "codestral")
    for family in (*families, "granite"):
        assert any(name.startswith(family) for name in names), family


def test_no_two_models_share_a_name_or_a_source():
    found = list(models.CATALOGUE.values())
    names = [model.name for model in found] + [model.source.lower() for model in found]
    assert len(set(names)) == len(names)
    assert [model.name.lower() for model in found] == list(models.CATALOGUE)


@pytest.mark.parametrize("model", models.CATALOGUE.values(), ids=lambda model: model.name)
def test_what_the_catalogue_says_is_consistent(model: models.Model):
    assert model.fim in {None, *(form.name for form in fim.FORMATS)}
    assert 10_000_000 < model.parameters < 100_000_000_000
    assert model.context >= 2048
    assert model.licence
    assert model.name == models.DEFAULT or model.source.count("/") == 1
    # A name that tells a size tells the right one, within what marketing rounds.
    sizes = [part for part in model.name.split("-") if part[0].isdigit() and part[-1] in "bm"]
    for size in sizes:
        told = float(size[:-1]) * (1e9 if size[-1] == "b" else 1e6)
        assert model.parameters == pytest.approx(told, rel=0.3)
    if model.chat_template:
        assert model.chat
        path = models.chat_template(model.name)
        assert path is not None
        assert path.is_file()
    if model.serve_args:
        assert all(flag.startswith("--") for flag in model.serve_args[::2])


def test_a_model_is_found_by_either_name_in_any_case():
    model = models.CATALOGUE["magicoder-s-ds-6.7b"]
    assert models.find("Magicoder-S-DS-6.7B") is model
    assert models.find("ise-uiuc/magicoder-s-ds-6.7b") is model
    assert models.find("ise-uiuc/Magicoder") is None


# --- names ---


def test_a_catalogue_name_and_a_hub_name_resolve_to_the_hub():
    assert models.resolve("qwen2.5-coder-1.5b") == "Qwen/Qwen2.5-Coder-1.5B"
    assert models.resolve("someone/Their-Model") == "someone/Their-Model"


def test_a_folder_resolves_to_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "org" / "mine").mkdir(parents=True)
    (tmp_path / "org" / "mine" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert models.resolve("org/mine") == str(tmp_path / "org" / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.resolve("~/org/mine") == str(tmp_path / "org" / "mine")
    assert models.chat_template("org/mine") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("magicoder-s-ds", "did you mean magicoder-s-ds-6.7b"),
        ("qwen2.5-codr-1.5b", "did you mean qwen2.5-coder-1.5b"),
        ("smollm", "did you mean smollm2-135m"),
        ("zzz", "unknown model 'zzz': 'magicoder models list'"),
        ("", "unknown model"),
        ("./here", "no folder ./here"),
        ("/no/such/folder", "no folder /no/such/folder"),
        ("a/b/c", "no folder a/b/c"),
        ("org/", "no folder org/"),
        ("empty", "holds no model"),
        ("adapter", "is an adapter: serve its base with --adapter"),
    ],
)
def test_a_name_that_is_no_model_says_what_to_do(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for ask in (models.resolve, models.located, models.pull):
        with pytest.raises(UsageError) as caught:
            ask(name)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


# --- chat templates ---


def render(name: str, messages: list[dict[str, str]], generate: bool, **special: str) -> str:
    """As transformers renders a chat template, whose jinja options differ from jinja's own."""
    path = models.chat_template(name)
    assert path is not None
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(path.read_text())
    plain = jinja2.Environment().from_string(path.read_text())
    values: dict[str, Any] = {"messages": messages, "add_generation_prompt": generate, **special}
    text: str = template.render(values)
    assert plain.render(values) == text
    return text


@pytest.mark.parametrize("instruction", ["Add two.", "", "a\n\nb  \n", "{{ x }} {% if %} <s>"])
def test_one_question_renders_as_the_papers_prompt_to_the_letter(instruction: str):
    messages = [{"role": "user", "content": instruction}]
    expected = prompts.fill("magicoder_prompt", instruction=instruction)
    for name in ("magicoder-s-ds-6.7b", "ise-uiuc/Magicoder-CL-7B"):
        assert render(name, messages, generate=True) == expected
        assert render(name, messages, generate=True, bos_token="<s>") == "<s>" + expected


def test_a_conversation_repeats_the_papers_sections():
    messages = [
        {"role": "system", "content": "Use Rust."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
    ]
    head = prompts.fill("magicoder_prompt", instruction="X").split("@@ Instruction")[0]
    expected = (
        f"<s>{head}Use Rust.\n\n@@ Instruction\nOne?\n\n@@ Response\n1</s>\n\n"
        "@@ Instruction\nTwo?\n\n@@ Response\n"
    )
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    text = render("magicoder-s-ds-6.7b", messages, generate=True, **special)
    assert text == expected
    # What was generated is what the next turn begins with, so that a server's cache holds.
    answered = render("magicoder-s-ds-6.7b", messages[:3], generate=False, **special)
    asked = render("magicoder-s-ds-6.7b", messages[:2], generate=True, **special)
    assert answered.startswith(asked + "1</s>")
    assert text.startswith(answered)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_codestrals_template_is_what_its_makers_tokenizer_writes():
    mistral = pytest.importorskip("mistral_common.tokens.tokenizers.mistral")
    request = pytest.importorskip("mistral_common.protocol.instruct.request")
    messages = [
        {"role": "system", "content": "Use Rust."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
    ]
    tokenizer = mistral.MistralTokenizer.v3()
    for count in (2, 4):
        asked = request.ChatCompletionRequest(messages=messages[:count])
        theirs = tokenizer.encode_chat_completion(asked).text
        theirs = theirs.replace("▁", " ").replace("<0x0A>", "\n")
        special = {"bos_token": "<s>", "eos_token": "</s>"}
        assert render("codestral-22b", messages[:count], generate=True, **special) == theirs


def test_a_model_with_a_template_of_its_own_gets_none():
    assert models.chat_template(models.DEFAULT) is None
    assert models.chat_template("qwen2.5-coder-1.5b-instruct") is None
    assert models.chat_template("someone/their-model") is None


# --- the hub ---


@dataclass
class Hub:
    """A hub on the loopback that holds `files` of every model asked for, or answers `refuse`."""

    files: dict[str, bytes] = field(default_factory=dict)
    refuse: tuple[int, str] | None = None
    sent: list[str] = field(default_factory=list)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    hub, commit = Hub(), "0" * 40

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_body()

        def do_HEAD(self) -> None:
            self.send_body()

        def send_body(self) -> None:
            headers, status, body = {"X-Repo-Commit": commit}, 200, b""
            path = self.path.split("?")[0]
            if hub.refuse:
                status, code = hub.refuse
                headers["X-Error-Code"] = code
            elif "/tree/" in path:
                body = json.dumps(
                    [
                        {"type": "file", "path": name, "size": len(data), "oid": sha1(data)}
                        for name, data in hub.files.items()
                    ]
                ).encode()
            elif path.startswith("/api/"):
                siblings = [{"rfilename": name} for name in hub.files]
                body = json.dumps({"id": "o/m", "sha": commit, "siblings": siblings}).encode()
            else:
                name = path.partition("/resolve/")[2].partition("/")[2]
                body = hub.files[name]
                headers["ETag"] = f'"{sha1(body)}"'
                hub.sent += [name] if self.command == "GET" else []
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{http.server_port}")
    template = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield hub
    http.shutdown()
    http.server_close()


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def test_pull_fetches_what_is_served_and_no_more(hub: Hub):
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    hub.files = {
        "config.json": b"{}",
        "model.safetensors.index.json": index.encode(),
        "model-1.safetensors": b"1",
        "model-2.safetensors": b"2",
        "consolidated.safetensors": b"again",
        "pytorch_model.bin": b"again",
        "model.gguf": b"again",
    }
    lines: list[str] = []
    assert models.located("o/m") is None
    folder = models.pull("o/m", lines.append)
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "model.safetensors.index.json",
        "model-1.safetensors",
        "model-2.safetensors",
    }
    assert lines == ["o/m: fetching from the Hugging Face hub", "o/m: ready"]
    assert models.located("o/m") == folder
    (folder / "model-2.safetensors").unlink()  # a shard that is not there yet
    assert models.located("o/m") is None
    models.pull("o/m")
    assert models.located("o/m") == folder


def test_pull_takes_the_older_form_of_weights_if_there_is_no_other(hub: Hub):
    hub.files = {"config.json": b"{}", "pytorch_model.bin": b"1"}
    folder = models.pull("o/m")
    assert (folder / "pytorch_model.bin").read_bytes() == b"1"
    assert models.located("o/m") == folder


def test_a_catalogue_name_is_pulled_from_its_source(hub: Hub):
    hub.files = {"config.json": b"{}", "model.safetensors": b"1"}
    folder = models.pull("qwen2.5-coder-0.5b")
    assert "Qwen--Qwen2.5-Coder-0.5B" in str(folder)
    assert models.located("qwen2.5-coder-0.5b") == folder


@pytest.mark.parametrize(
    ("refuse", "error", "message"),
    [
        ((404, "RepoNotFound"), UsageError, "the hub has no model o/m: check its name"),
        ((401, "RepoNotFound"), UsageError, "log in with 'hf auth login'"),
        ((403, "GatedRepo"), MagicoderError, "accept its licence: do so on https://"),
        ((500, ""), MagicoderError, "the hub is out of reach"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(
    hub: Hub, refuse: tuple[int, str], error: type[MagicoderError], message: str
):
    hub.refuse = refuse
    with pytest.raises(MagicoderError) as caught:
        models.pull("o/m")
    assert type(caught.value) is error
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert models.located("o/m") is None


def test_a_hub_out_of_reach_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MagicoderError, match=r"o/m could not be fetched .*out of reach") as caught:
        models.pull("o/m")
    assert "\n" not in str(caught.value)


def test_a_repository_without_weights_is_told(hub: Hub):
    hub.files = {"config.json": b"{}", "README.md": b"# Soon"}
    with pytest.raises(UsageError, match="holds no weights"):
        models.pull("o/m")


def test_without_the_hub_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("magicoder.models.find_spec", lambda name: None)
    monkeypatch.setattr("magicoder.errors.find_spec", lambda name: None)
    assert models.located("o/m") is None
    with pytest.raises(MagicoderError, match=r"pip install 'magicoder\[convert\]'"):
        models.pull("o/m")


def test_the_embedded_model_is_pulled_and_located_by_its_own_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path))
    assert models.located(models.DEFAULT) is None
    folder = tmp_path / "models" / models.DEFAULT
    folder.mkdir(parents=True)
    manifest = {"wheel": embedded.WHEEL_SHA256, "files": {}}
    (folder / "magicoder.json").write_text(json.dumps(manifest))
    assert models.located(models.DEFAULT) == folder
    assert models.pull(models.DEFAULT) == folder
    assert models.resolve(models.DEFAULT) == str(folder)
