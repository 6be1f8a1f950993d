"""Packs against the documents that went into them, and labels against the texts."""

import random

import pytest
import torch
from transformers import AutoTokenizer

from magicoder import prompts
from magicoder.errors import UsageError
from magicoder.training import packing
from magicoder.training.packing import IGNORED, Document, Example

EXAMPLE = Example(problem="Add <s> two numbers.", solution="```python\ndef add(a, b): ...\n```")


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return AutoTokenizer.from_pretrained(tiny)


def test_no_document_is_lost_doubled_or_split():
    rng = random.Random(0)
    for _ in range(200):
        capacity = rng.randint(1, 300)
        lengths = [rng.randint(1, capacity) for _ in range(rng.randint(0, 60))]
        rows = packing.pack(lengths, capacity)
        assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
        filled = [sum(lengths[index] for index in row) for row in rows]
        assert all(0 < tokens <= capacity for tokens in filled)
        # Of two rows that fit into one, best fit would have made one
        assert len(filled) < 2 or sum(sorted(filled)[:2]) > capacity


def test_best_fit_fills_rows_that_a_reader_would_fill():
    assert packing.pack([5, 5, 4, 3, 2, 1], 10) == [[0, 1], [2, 3, 4, 5]]
    assert packing.pack([7, 6, 3, 4], 10) == [[0, 2], [1, 3]]


def test_a_pack_holds_its_documents_and_nothing_else():
    documents = [
        Document([10, 11, 12, 13], [IGNORED, IGNORED, 12, 13]),
        Document([20, 21], [IGNORED, 21]),
        Document([30, 31, 32], [30, IGNORED, 32]),  # its first token follows nothing
        Document([40], [40]),
    ]
    pack = packing.collate(documents)
    assert pack.input_ids.tolist() == [[10, 11, 12, 13, 20, 21, 30, 31, 32, 40]]
    assert pack.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 0, 1, 2, 0]]
    assert pack.lengths == (4, 2, 3, 1)
    assert pack.cu_seqlens.tolist() == [0, 4, 6, 9, 10]
    assert pack.cu_seqlens.dtype == torch.int32
    assert pack.rows.tolist() == [1, 2, 4, 7]
    assert pack.targets.tolist() == [12, 13, 21, 32]


def test_a_pack_without_a_response_has_no_targets():
    pack = packing.collate([Document([1, 2], [IGNORED, IGNORED])])
    assert pack.rows.dtype == pack.targets.dtype == torch.int64
    assert not len(pack.rows)


def test_the_paper_s_prompt_is_not_trained_on_and_the_response_is(tokenizer):
    (document,), cut = packing.tokenize([EXAMPLE], tokenizer, "magicoder", 2048)
    assert not cut
    request = prompts.fill(
        "magicoder_prompt",
        instruction=f"Write a solution to the following coding problem:\n{EXAMPLE.problem}",
    )
    assert tokenizer.decode(document.ids) == request + EXAMPLE.solution + "</s>"
    trained = [label for label in document.labels if label != IGNORED]
    assert tokenizer.decode(trained) == EXAMPLE.solution + "</s>"
    assert document.labels == [IGNORED] * (len(document) - len(trained)) + trained


def test_the_chat_form_is_what_the_served_model_will_see(tokenizer):
    (document,), _ = packing.tokenize([EXAMPLE], tokenizer, "chat", 2048)
    content = f"Write a solution to the following coding problem:\n{EXAMPLE.problem}"
    asked = [{"role": "user", "content": content}]
    request = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    assert document.ids[: len(request)] == request
    assert document.labels[: len(request)] == [IGNORED] * len(request)
    assert document.labels[len(request) :] == document.ids[len(request) :]
    assert tokenizer.decode(document.ids[len(request) :]) == EXAMPLE.solution + "</s>"


@pytest.mark.parametrize(
    ("template", "says"),
    [(None, "has no chat template"), ("{{ messages | length }}", "rewrites its prompt")],
)
def test_chat_templates_that_cannot_serve_are_told(tiny, template, says):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = template
    with pytest.raises(UsageError, match=f"{says}.*: set prompt=magicoder"):
        packing.tokenize([EXAMPLE], tokenizer, "chat", 2048)


def test_long_documents_are_cut_off_or_left_out_and_counted(tokenizer):
    (whole,), _ = packing.tokenize([EXAMPLE], tokenizer, "chat", 2048)
    request = whole.labels.count(IGNORED)
    for length, kept, cut in [
        (len(whole), 1, {}),
        (len(whole) - 1, 1, {"cut off": 1}),
        (request + 1, 1, {"cut off": 1}),
        (request, 0, {"left out": 1}),
    ]:
        documents, counted = packing.tokenize([EXAMPLE], tokenizer, "chat", length)
        assert (len(documents), counted) == (kept, cut)
        if documents:
            assert documents[0].ids == whole.ids[:length]
            assert any(label != IGNORED for label in documents[0].labels)


def test_a_dataset_may_hold_more_fields(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"problem": "p", "solution": "s\u2028t", "lang": "python"}\n' * 2, encoding="utf-8"
    )
    assert packing.read([path, path]) == [Example(problem="p", solution="s\u2028t")] * 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file"),
        ("", "holds no example"),
        ('{"problem": "p", "solution": "s"}\n{"problem": "p"}', "line 2: expected"),
        ("[]", "line 1: expected"),
        ("{", "line 1: expected"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_named(tmp_path, text, says):
    path = tmp_path / "a.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=says):
        packing.read([path])
