"""Packed against unpacked: plain transformers, one document a forward, is the truth."""

import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from magicoder.custom_kernels import ATTENTION
from magicoder.training import finetune, packing
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
    "gemma2": {
        "query_pre_attn_scalar": 8,
        "sliding_window": 7,
        "attn_logit_softcapping": 0.5,
        "final_logit_softcapping": 0.1,
    },
    "gemma3_text": {"sliding_window": 7},
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
    packed, plain = model_of(family, ATTENTION), model_of(family, "eager")
    ours, theirs = packed_loss(packed, chosen), unpacked_loss(plain, chosen)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=0)
    ours.backward()
    theirs.backward()
    for (name, weight), truth in zip(packed.named_parameters(), plain.parameters(), strict=True):
        scale = truth.grad.abs().max().item()
        assert (weight.grad - truth.grad).abs().max() <= 1e-5 * scale, name


def test_in_float64_they_agree_to_rounding():
    chosen = documents(31, 1, 2, 17, 9)
    packed = model_of("llama", ATTENTION, torch.float64)
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
    model = model_of("llama", ATTENTION, dtype)
    truth = gradient_among(model, (20, 13), 1)
    assert truth.abs().sum() > 0
    assert torch.equal(truth, gradient_among(model, others, 5))


@pytest.mark.parametrize("others", [(1, 2), (64, 100), (0, 0)], ids=str)
def test_in_a_row_of_another_length_only_rounding_differs(others):
    model = model_of("llama", ATTENTION)
    truth, other = gradient_among(model, (20, 13), 1), gradient_among(model, others, 5)
    assert (truth - other).abs().max() <= 1e-6 * truth.abs().max()


def test_a_leak_would_be_seen():
    """The same test fails where attention crosses documents: transformers' own, without a mask."""
    leaky = model_of("llama", "sdpa")
    own = documents(20)[0]
    first, second = (gradient(leaky, [documents(20, seed=seed)[0], own], 1) for seed in (1, 5))
    assert not torch.equal(first, second)


def test_permuting_the_documents_permutes_their_gradients_and_nothing_else():
    model = model_of("llama", ATTENTION)
    chosen = documents(12, 1, 20, 7)
    order = [2, 0, 3, 1]
    permuted = [chosen[index] for index in order]
    for place, index in enumerate(order):
        ours, theirs = gradient(model, permuted, place), gradient(model, chosen, index)
        assert torch.equal(ours, theirs), index
    losses = [packed_loss(model, each) for each in (chosen, permuted)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)


def test_another_document_changes_no_hidden_state():
    model = model_of("llama", ATTENTION)

    def hidden(chosen):
        pack = packing.collate(chosen)
        return model.base_model(
            input_ids=pack.input_ids,
            position_ids=pack.position_ids,
            cu_seqlens=pack.cu_seqlens,
            lengths=pack.lengths,
        ).last_hidden_state[0]

    before, own, after = documents(9)[0], documents(20)[0], documents(24)[0]
    truth = hidden([before, own, after])
    other = hidden([documents(9, seed=5)[0], own, documents(24, seed=6)[0]])
    same = (truth == other).all(1)
    assert same[9:29].all()
    assert not same[:9].any()
    assert not same[29:].any()


def test_a_response_s_rows_alone_pass_the_projection():
    """Not a number in every other row changes nothing: nothing is computed of them."""
    model = model_of("llama", ATTENTION)
    pack = packing.collate(documents(30, 10))
    hidden = torch.randn(1, 40, 32)
    broken = torch.full_like(hidden, torch.nan)
    broken[0, pack.rows] = hidden[0, pack.rows]
    broken.requires_grad_()
    loss = SupervisedLoss(model)(broken, pack)
    assert torch.equal(loss, SupervisedLoss(model)(hidden, pack))
    loss.backward()
    assert broken.grad[0, pack.rows].all()
    assert broken.grad.count_nonzero() == (15 + 5) * 32
    assert model.lm_head.weight.grad.isfinite().all()


def test_a_projection_with_an_adapter_computes_its_own_logits():
    model = model_of("llama", ATTENTION)
    chosen = documents(30, 10)
    pack = packing.collate(chosen)
    hidden = torch.randn(1, 40, 32)
    plain = SupervisedLoss(model)(hidden, pack)
    config = peft.LoraConfig(target_modules=["lm_head"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, config)
    loss = SupervisedLoss(adapted)(hidden, pack)
    logits = adapted.get_output_embeddings()(hidden[0, pack.rows])
    truth = torch.nn.functional.cross_entropy(logits, pack.targets, reduction="sum")
    torch.testing.assert_close(loss, truth, rtol=1e-6, atol=0)
    assert loss != plain
    loss.backward()
    assert all(p.grad.any() for n, p in adapted.named_parameters() if "lora" in n)


def test_no_target_gives_zero_and_a_gradient_of_zero():
    model = model_of("llama", ATTENTION)
    loss = packed_loss(model, [Document([5, 6, 7], [IGNORED] * 3)])
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize(
    ("kind", "more", "meet"),
    [("llama", {}, False), ("lfm2", {"layer_types": ["conv", "full_attention"]}, True)],
)
def test_layers_that_mix_the_documents_of_a_pack_are_noticed(kind, more, meet):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SMALL, **more)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)
    assert finetune._documents_meet(model.base_model, torch.device("cpu")) == meet
