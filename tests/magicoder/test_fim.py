import json
import random
from collections.abc import Iterable

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import CodeLlamaTokenizer, PreTrainedTokenizerFast

from magicoder import fim
from magicoder.errors import MagicoderError

TEXT = "\n".join(
    f"def f{i}(a, b):\n    if a < {i}:\n        return [x * 'ä|é' for x in range(b)]\n"
    for i in range(40)
)
PREFIX, SUFFIX = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"

# The table of docs/serving.md: control tokens, an end-of-sequence token, BOS or not, the prompt.
DEEPSEEK = ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>")
BARS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
STAR = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
FAMILIES = {
    "deepseek": ([*DEEPSEEK], "<｜end▁of▁sentence｜>", True),
    "starcoder": ([*STAR, "<file_sep>"], "<|endoftext|>", False),
    "qwen": ([*BARS, "<|repo_name|>", "<|file_sep|>"], "<|endoftext|>", False),
    "codegemma": ([*BARS, "<|file_separator|>"], "<eos>", True),
    "granite4": ([*BARS, "<|filename|>", "<|reponame|>"], "<|end_of_text|>", False),
    "codestral": (["[PREFIX]", "[SUFFIX]", "[MIDDLE]"], "</s>", True),
}
BOS = "<begin>"


def byte_level(
    added: Iterable[str], eos: str, *, special: bool = True, normalizer: bool = False
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained here, with added tokens behind its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokens = [AddedToken(token, special=special, normalized=normalizer) for token in added]
    tokenizer.add_tokens(tokens)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=eos)


def family(name: str, **options: bool) -> PreTrainedTokenizerFast:
    added, eos, _ = FAMILIES[name]
    return byte_level(added, eos, **options)


def code_llama(*, infilling: bool) -> CodeLlamaTokenizer:
    """Sentencepiece's way of spaces, in transformers' own class for Code Llama."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab: dict[str, int] = model["vocab"] | {"☺": len(model["vocab"])}
    vocab |= {f"filler{i}": i for i in range(len(vocab), 32000)}
    if infilling:
        vocab |= {f"filler{i}": i for i in range(32000, 32016)}
        for i, token in enumerate(["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"], 32007):
            del vocab[f"filler{i}"]
            vocab[token] = i
    return CodeLlamaTokenizer(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]])


def infiller(tokenizer: PreTrainedTokenizerFast) -> fim.Infiller:
    found = fim.detect(tokenizer)
    assert found is not None
    return found


def tokens(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[str]:
    return [tokenizer.decode([id_]) for id_ in ids]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_family_is_told_from_its_vocabulary_and_rendered(name: str, special: bool) -> None:
    tokenizer = family(name, special=special)
    found = infiller(tokenizer)
    assert found.format.name == name
    controls, eos, bos = FAMILIES[name]
    prefix, suffix = tokenizer.encode(PREFIX), tokenizer.encode(SUFFIX)
    pre, suf, mid = (tokenizer.convert_tokens_to_ids(token) for token in controls[:3])
    start = [tokenizer.bos_token_id] if bos else []
    expected = [*start, pre, *prefix, suf, *suffix, mid]
    if name == "codestral":
        expected = [*start, suf, *suffix, pre, *prefix]
    assert (
        found.render(PREFIX, SUFFIX, 100, None if bos and name == "codestral" else "psm")
        == expected
    )
    assert set(found.stop_ids) == {*map(tokenizer.convert_tokens_to_ids, [*controls, eos])}


@pytest.mark.parametrize("name", ["starcoder", "codellama"])
def test_suffix_first_order_ends_with_the_prefix(name: str) -> None:
    tokenizer = code_llama(infilling=True) if name == "codellama" else family(name)
    found = infiller(tokenizer)
    psm, spm = found.render(PREFIX, SUFFIX, 100, "psm"), found.render(PREFIX, SUFFIX, 100)
    pre, suf, mid = (tokenizer.convert_tokens_to_ids(t) for t in found.format.controls.values())
    start = psm.index(pre)
    prefix, suffix = psm[start + 1 : psm.index(suf)], psm[psm.index(suf) + 1 : -1]
    assert spm == [*psm[: start + 1], suf, *suffix, mid, *prefix]


def test_order_unknown_to_the_family_is_refused() -> None:
    with pytest.raises(MagicoderError, match="qwen has no order 'spm': use psm"):
        infiller(family("qwen")).render("", "", 100, "spm")


def test_no_control_tokens_no_format() -> None:
    assert fim.detect(byte_level(["<repo_name>", "<file_sep>"], "<|endoftext|>")) is None


def test_code_llama_python_has_the_tokens_but_was_not_trained_with_them() -> None:
    tokenizer = code_llama(infilling=False)
    assert tokenizer.convert_tokens_to_ids("▁<PRE>") == 32000  # appended by its class
    assert fim.detect(tokenizer) is None
    assert fim.detect(code_llama(infilling=True)) is not None


def test_tokens_beyond_the_embedding_do_not_count() -> None:
    tokenizer = family("qwen")
    middle = tokenizer.convert_tokens_to_ids("<|fim_middle|>")
    assert fim.detect(tokenizer, middle) is None
    assert fim.detect(tokenizer, middle + 1) is not None


def test_code_llama_suffix_has_no_implicit_space() -> None:
    tokenizer = code_llama(infilling=True)
    # As Meta's reference does: the suffix behind a smiley, whose two tokens are dropped.
    suffix = tokenizer.encode("☺" + SUFFIX, add_special_tokens=False)[2:]
    prefix = tokenizer.encode(PREFIX, add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(prefix)[0].startswith("▁")
    assert not tokenizer.convert_ids_to_tokens(suffix)[0].startswith("▁")
    found = infiller(tokenizer)
    assert found.render(PREFIX, SUFFIX, 100, "psm") == [1, 32007, *prefix, 32008, *suffix, 32009]
    assert found.render("", "", 100, "psm") == [1, 32007, 32008, 32009]
    assert 32010 in found.stop_ids


def test_only_blanks_may_be_added_tokens_in_the_users_text() -> None:
    tokenizer = byte_level([*BARS, "    ", "<think>"], "<|endoftext|>", special=False)
    ids = infiller(tokenizer).plain("if a:\n    <think>", continued=False)
    assert tokenizer.convert_tokens_to_ids("    ") in ids
    assert tokenizer.convert_tokens_to_ids("<think>") not in ids


def test_reserved_token_in_other_letters_stays_text() -> None:
    tokenizer = byte_level([*BARS], "<|endoftext|>", special=False, normalizer=True)
    wide = "a＜|fim_middle|＞b"  # NFKC makes it the control token
    middle = tokenizer.convert_tokens_to_ids("<|fim_middle|>")
    assert middle in tokenizer.encode(wide)
    ids = infiller(tokenizer).plain(wide, continued=False)
    assert middle not in ids
    assert tokenizer.decode(ids) == "a<|fim_middle|>b"


def random_text(rng: random.Random, spice: list[str]) -> str:
    words = [
        "a",
        "é",
        "漢字",
        "🙂",
        "\n",
        "\t",
        " ",
        "    ",
        "return",
        "<|",
        "|>",
        "<",
        "▁",
        "x = 1;",
    ]
    return "".join(rng.choice(words + spice) for _ in range(rng.randrange(60)))


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", [*FAMILIES, "codellama"])
def test_no_text_becomes_a_control_token(name: str, special: bool) -> None:
    rng = random.Random(0)
    if name == "codellama":
        tokenizer: PreTrainedTokenizerFast = code_llama(infilling=True)
        spice = ["▁<PRE>", " <PRE>", "<FILL_ME>", "<s>", "</s>", "☺"]
    else:
        tokenizer = family(name, special=special)
        spice = [*FAMILIES[name][0], FAMILIES[name][1], BOS, "<|fim_<|fim_prefix|>prefix|>"]
    found = infiller(tokenizer)
    reserved = set(tokenizer.get_added_vocab().values())
    for _ in range(100):
        prefix, suffix = random_text(rng, spice), random_text(rng, spice)
        for text, continued in ((prefix, False), (suffix, True)):
            ids = found.plain(text, continued=continued)
            assert reserved.isdisjoint(ids)
            decoded = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            if name == "codellama":  # writes a blank as ▁, and its decoder drops a leading one
                assert decoded.lstrip() == text.replace("▁", " ").lstrip()
            else:
                assert decoded == text
        prompt = found.render(prefix, suffix, 10_000)
        assert sum(id_ in reserved for id_ in prompt) == len(found.format.controls) + (
            FAMILIES[name][2] if name in FAMILIES else True
        )


@pytest.mark.parametrize("name", ["qwen", "codestral", "codellama"])
def test_what_is_nearest_the_cursor_survives(name: str) -> None:
    tokenizer = code_llama(infilling=True) if name == "codellama" else family(name)
    found = infiller(tokenizer)
    before = "".join(f"b{i}\n" for i in range(3000))
    after = "".join(f"a{i}\n" for i in range(3000))
    fixed = len(found.render("", "", 100))
    room = 200 - fixed

    def sides(prefix: str, suffix: str, budget: int) -> tuple[str, str, int]:
        ids = found.render(prefix, suffix, budget)
        assert len(ids) <= budget
        marks = set(found.stop_ids) | {tokenizer.bos_token_id}
        runs, run = [], []  # the user's text between control tokens
        for id_ in [*ids, tokenizer.bos_token_id]:
            if id_ in marks:
                runs += [run] if run else []
                run = []
            else:
                run.append(id_)
        texts = [tokenizer.decode(run) for run in runs]
        kept = {"b": "", "a": ""} | {"b" if "b" in text else "a": text for text in texts}
        return kept["b"], kept["a"], len(ids)

    kept_before, kept_after, length = sides(before, after, 200)
    assert before.endswith(kept_before)
    assert after.startswith(kept_after)
    assert length == 200
    assert len(kept_before) > 2 * len(kept_after) > 0

    kept_before, kept_after, length = sides("b\n", after, 200)  # the suffix takes what is free
    assert (kept_before, length) == ("b\n", 200)
    assert len(found.plain(kept_after, continued=True)) > 0.9 * room
    kept_before, kept_after, length = sides(before, "a\n", 200)
    assert (kept_after, length) == ("a\n", 200)

    assert len(found.render(before, after, fixed)) == fixed
    with pytest.raises(MagicoderError, match="ask for fewer new tokens"):
        found.render("b", "a", fixed - 1)


def test_little_of_a_huge_file_is_tokenised(monkeypatch: pytest.MonkeyPatch) -> None:
    found = infiller(family("qwen"))
    read = 0
    encode = found._encode

    def counted(text: str) -> list[int]:
        nonlocal read
        read += len(text)
        return encode(text)

    monkeypatch.setattr(found, "_encode", counted)
    assert len(found.render(TEXT * 2000, TEXT * 2000, 300)) == 300  # two times 5 MB
    assert read < 100_000


def test_budget_is_filled_where_tokens_are_long() -> None:
    tokenizer = byte_level([*BARS, " " * 16], "<|endoftext|>")
    found = infiller(tokenizer)
    assert len(found.render(" " * 16_000, "", 103)) == 103


REPOSITORIES = {
    # What comes before the prompt of the hole's own file, c.py, by the family's documentation.
    # StarCoder2 has its name behind the prefix token.
    "qwen": ("<|repo_name|>", "workspace\n", "<|file_sep|>", "a.py\nA = 1\n", "<|file_sep|>",
             "b.py\nB = 2\n", "<|file_sep|>", "c.py\n"),
    "starcoder": ("<repo_name>", "workspace", "<file_sep>", "a.py\nA = 1", "<file_sep>",
                  "b.py\nB = 2", "<file_sep>"),
    "codegemma": ("a.py\nA = 1", "<|file_separator|>", "b.py\nB = 2", "<|file_separator|>",
                  "c.py\n"),
}  # fmt: skip
FILES = [("a.py", "A = 1"), ("b.py", "B = 2")]


def with_repository(name: str, **options: bool) -> PreTrainedTokenizerFast:
    added, eos, _ = FAMILIES[name]
    more = ["<repo_name>"] if name == "starcoder" else []
    return byte_level([*added, *more], eos, **options)


def spelled(tokenizer: PreTrainedTokenizerFast, parts: Iterable[str]) -> list[int]:
    """Token ids of control tokens and of the texts between them."""
    added = tokenizer.get_added_vocab()
    return [
        id_
        for part in parts
        for id_ in ([added[part]] if part in added else tokenizer.encode(part))
    ]


@pytest.mark.parametrize("name", REPOSITORIES)
def test_other_files_come_first_in_the_familys_own_layout(name: str) -> None:
    tokenizer = with_repository(name)
    found = infiller(tokenizer)
    assert found.repository is not None
    alone = found.render(PREFIX, SUFFIX, 500, "psm")
    bos = [tokenizer.bos_token_id] if FAMILIES[name][2] else []
    control, *rest = alone[len(bos) :]
    inside = tokenizer.encode("c.py\n") if name == "starcoder" else []
    expected = [*bos, *spelled(tokenizer, REPOSITORIES[name]), control, *inside, *rest]
    assert found.render(PREFIX, SUFFIX, 500, "psm", FILES, "c.py") == expected
    # The hole's own name goes with other files only.
    assert found.render(PREFIX, SUFFIX, 500, "psm", (), "c.py") == alone


def test_the_holes_own_name_stands_at_its_text_in_both_orders() -> None:
    tokenizer = with_repository("starcoder")
    prompt = infiller(tokenizer).render(PREFIX, SUFFIX, 500, "spm", FILES, "c.py")
    own = tokenizer.encode("c.py\n") + tokenizer.encode(PREFIX)
    assert prompt[-len(own) - 1 :] == [tokenizer.convert_tokens_to_ids("<fim_middle>"), *own]


@pytest.mark.parametrize("name", ["codestral", "deepseek", "granite4", "starcoder"])
def test_families_without_such_tokens_refuse_other_files(name: str) -> None:
    found = infiller(family(name))  # the first StarCoder has no <repo_name>
    assert found.repository is None
    with pytest.raises(MagicoderError, match=f"{name} shows no other files"):
        found.render(PREFIX, SUFFIX, 500, extra=FILES)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", REPOSITORIES)
def test_no_other_file_becomes_a_control_token(name: str, special: bool) -> None:
    rng = random.Random(0)
    tokenizer = with_repository(name, special=special)
    found = infiller(tokenizer)
    reserved = set(tokenizer.get_added_vocab().values())
    plain = spelled(tokenizer, [t for t in REPOSITORIES[name] if t in tokenizer.get_added_vocab()])
    expected = len(plain) + len(found.format.controls) + FAMILIES[name][2]
    for _ in range(50):
        evil = random_text(rng, list(tokenizer.get_added_vocab()))
        prompt = found.render(evil, evil, 10_000, None, [(evil, evil), ("b", evil)], evil or "c")
        assert sum(id_ in reserved for id_ in prompt) == expected


@pytest.mark.parametrize("name", REPOSITORIES)
def test_other_files_give_way_the_first_one_first(name: str) -> None:
    tokenizer = with_repository(name)
    found = infiller(tokenizer)
    whole = found.render(PREFIX, SUFFIX, 500, None, FILES, "c.py")
    alone = found.render(PREFIX, SUFFIX, 500)
    seen = []
    for budget in range(len(alone), len(whole) + 1):
        prompt = found.render(PREFIX, SUFFIX, budget, None, FILES, "c.py")
        assert len(prompt) <= budget
        text = tokenizer.decode(prompt)
        assert PREFIX in text
        assert SUFFIX in text
        seen.append(("A = 1" in text, "B = 2" in text))
    assert list(dict.fromkeys(seen)) == [(False, False), (False, True), (True, True)]
    assert found.render(PREFIX * 99, SUFFIX, 200, None, FILES) == found.render(
        PREFIX * 99, SUFFIX, 200
    )


def test_a_hole_without_a_name_still_begins_a_file() -> None:
    tokenizer = with_repository("starcoder")
    prompt = infiller(tokenizer).render(PREFIX, SUFFIX, 500, "psm", FILES)
    control = tokenizer.convert_tokens_to_ids("<fim_prefix>")
    start = spelled(tokenizer, [*REPOSITORIES["starcoder"], "<fim_prefix>"])
    assert prompt[: len(start)] == start
    assert prompt.count(control) == 1
