"""Packed against unpacked: plain transformers, one document a forward, is the truth."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from magicoder.errors import MagicoderError
from magicoder.training import attention, packing
from magicoder.training.loss import SupervisedLoss
from magicoder.training.packing import IGNORED, Document

SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 7},
    "starcoder2": {"sliding_window": 7},
    "gemma": {},
    "granite": {"logits_scaling": 8.0, "attention_multiplier": 0.1},
}


def model_of(family, implementation, dtype=torch.float32):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SMALL, **FAMILIES.get(family, {}))
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation).to(dtype)


def documents(*lengths, seed=0):
    made = []
    for place, length in enumerate(lengths):
        rng = torch.Generator().manual_seed(100 * seed + place)
        ids = torch.randint(1, 300, (length,), generator=rng).tolist()
        request = length // 2
        made.append(Document(ids, [IGNORED] * request + ids[request:]))
    return made


def packed_loss(model, chosen, embeddings=None):
    pack = packing.collate(chosen)
    given = {"input_ids": pack.input_ids} if embeddings is None else {"inputs_embeds": embeddings}
    hidden = model.base_model(
        **given, position_ids=pack.position_ids, cu_seqlens=pack.cu_seqlens, lengths=pack.lengths
    ).last_hidden_state
    return SupervisedLoss(model)(hidden, pack)


def unpacked_loss(model, chosen):
    """transformers' own logits, and the definition of cross-entropy in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for document in chosen:
        logits = model(input_ids=torch.tensor([document.ids])).logits[0]
        wide = logits.double().log_softmax(-1)
        for place, label in enumerate(document.labels[1:]):
            if label != IGNORED:
                total = total - wide[place, label]
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_loss_and_gradients_equal_the_unpacked_ones(family):
    chosen = documents(31, 1, 2, 17, 9)
    packed, plain = model_of(family, attention.NAME), model_of(family, "eager")
    ours, theirs = packed_loss(packed, chosen), unpacked_loss(plain, chosen)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=0)
    ours.backward()
    theirs.backward()
    for (name, weight), truth in zip(packed.named_parameters(), plain.parameters(), strict=True):
        scale = truth.grad.abs().max().item()
        assert (weight.grad - truth.grad).abs().max() <= 1e-5 * scale, name


def test_in_float64_they_agree_to_rounding():
    chosen = documents(31, 1, 2, 17, 9)
    packed = model_of("llama", attention.NAME, torch.float64)
    plain = model_of("llama", "eager", torch.float64)
    # The norms of transformers compute in float32, in both
    ours, theirs = packed_loss(packed, chosen), unpacked_loss(plain, chosen)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-7, atol=0)


def gradient(model, chosen, which):
    """The loss's gradient by the input embeddings of one document, and its hidden states."""
    ids = packing.collate(chosen).input_ids
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    packed_loss(model, chosen, embeddings).backward()
    start = sum(len(document) for document in chosen[:which])
    return embeddings.grad[0, start : start + len(chosen[which])]


def gradient_among(model, lengths, seed):
    """That of 20 tokens that stay the same, between documents of these lengths."""
    before, after = (
        documents(length, seed=seed + place) if length else []
        for place, length in enumerate(lengths)
    )
    return gradient(model, [*before, documents(20)[0], *after], len(before))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("others", [(20, 13), (9, 24), (33, 0), (0, 33)], ids=str)
def test_a_document_s_gradient_is_its_own_to_the_bit(others, dtype):
    """In a row of one length: for another, BLAS may take another kernel, which rounds otherwise."""
    model = model_of("llama", attention.NAME, dtype)
    truth = gradient_among(model, (20, 13), 1)
    assert truth.abs().sum() > 0
    assert torch.equal(truth, gradient_among(model, others, 5))


@pytest.mark.parametrize("others", [(1, 2), (64, 100), (0, 0)], ids=str)
def test_in_a_row_of_another_length_only_rounding_differs(others):
    model = model_of("llama", attention.NAME)
    truth, other = gradient_among(model, (20, 13), 1), gradient_among(model, others, 5)
    assert (truth - other).abs().max() <= 1e-6 * truth.abs().max()


def test_a_leak_would_be_seen():
    """The same test fails where attention crosses documents: transformers' own, without a mask."""
    leaky = model_of("llama", "sdpa")
    own = documents(20)[0]
    first, second = (gradient(leaky, [documents(20, seed=seed)[0], own], 1) for seed in (1, 5))
    assert not torch.equal(first, second)


def test_a_response_s_rows_alone_pass_the_projection():
    model = model_of("llama", attention.NAME)
    seen = []
    model.lm_head.register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    packed_loss(model, documents(30, 10))
    assert seen == [(15 + 5, 32)]


def test_no_target_gives_zero_and_a_gradient_of_zero():
    model = model_of("llama", attention.NAME)
    loss = packed_loss(model, [Document([5, 6, 7], [IGNORED] * 3)])
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())


def test_capped_logits_are_those_of_transformers():
    """Gemma 2 caps its logits; its attention, capped as well, is refused by name."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("gemma2", **SMALL, final_logit_softcapping=0.1)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    document = documents(12)[0]
    out = model(input_ids=torch.tensor([document.ids]), output_hidden_states=True)
    pack = packing.collate([document])
    truth = torch.nn.functional.cross_entropy(
        out.logits[0, pack.rows], pack.targets, reduction="sum"
    )
    ours = SupervisedLoss(model)(out.hidden_states[-1], pack)
    torch.testing.assert_close(ours, truth, rtol=1e-6, atol=0)
    with pytest.raises(MagicoderError, match="softcap"):
        packed_loss(model_of("gemma2", attention.NAME), [document])
