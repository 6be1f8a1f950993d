"""Counting tokens, held against the tokenizer on the whole text."""

import hashlib
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from magicoder.client import ModelInfo
from magicoder.errors import ServerError
from magicoder.lsp.context import tokens
from magicoder.lsp.context.tokens import Counter

TEXT = Path(__file__).read_text()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    return made


def test_lines_are_counted_as_the_whole_is(tokenizer: Tokenizer) -> None:
    whole = len(tokenizer.encode(TEXT).ids)
    assert whole <= Counter(tokenizer).count(TEXT) <= 1.2 * whole
    assert Counter(tokenizer).count("") == 0


def test_a_keystroke_costs_one_line(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(tokenizer)
    counter.count(TEXT)
    before = counter._line.cache_info().misses
    counter.count(TEXT + "x = 1")
    assert counter._line.cache_info().misses == before + 1


def test_without_a_tokenizer_bytes_bound_tokens() -> None:
    assert Counter().count("é漢\n🙂") == len("é漢\n🙂".encode())
    assert Counter().count("\ud800") == 1  # half a pair, as an editor may leave it


class Client:
    """A server's answers about its tokenizer, also bad ones."""

    def __init__(self, content: bytes | None) -> None:
        self.content, self.asked = content, 0

    async def tokenizer(self) -> bytes:
        self.asked += 1
        if self.content is None:
            raise ServerError("gone", 404)
        return self.content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "0" * 64),
        (b"{}", "0" * 64),
        (b"{}", hashlib.sha256(b"{}").hexdigest()),
        (b"{}", "../../evil"),
        (b"{}", None),
    ],
)
async def test_bad_tokenizers_leave_bytes(
    content: bytes | None, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path / "cache"))
    counter = await tokens.load(Client(content), ModelInfo("m", tokenizer=told))  # type: ignore[arg-type]
    assert counter.count("abc") == 3
    assert counter.largest == Counter().largest
    kept = [file.name for file in tmp_path.rglob("*.json")]  # noqa: ASYNC240
    assert set(kept) <= {f"{hashlib.sha256(b'{}').hexdigest()}.json"}


async def test_a_tokenizer_is_fetched_once(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path))
    content = tokenizer.to_str().encode()
    client = Client(content)
    info = ModelInfo("m", tokenizer=hashlib.sha256(content).hexdigest())
    for _ in range(2):
        counter = await tokens.load(client, info)  # type: ignore[arg-type]
        assert counter.count("def f():") == len(tokenizer.encode("def f():").ids)
    assert client.asked == 1


def test_half_a_surrogate_pair_is_counted(tokenizer: Tokenizer) -> None:
    assert Counter(tokenizer).count("s = '\ud83d'\n") == Counter(tokenizer).count("s = '?'\n")
    assert Counter().count("\ud83d") == 1


def test_a_long_line_is_not_remembered() -> None:
    counter = Counter()
    assert counter.count("a" * 3000 + "\nb") == 3002
    assert counter._line.cache_info().currsize == 1
