"""Finetuning, to be read from top to bottom: what a recipe says is done here, in this order.

A step takes `batch_size` documents, packs them, and divides the summed loss by all the tokens that
the step trains on; the gradient is that of the exact mean, however the documents were packed.
"""

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    Adafactor,
    AutoModelForCausalLM,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
)

from magicoder import models
from magicoder.custom_kernels import ATTENTION, kernelize
from magicoder.custom_kernels.adamw import AdamW8bit
from magicoder.errors import MagicoderError, UsageError
from magicoder.training import packing
from magicoder.training.loss import SupervisedLoss
from magicoder.training.packing import IGNORED, Document
from magicoder.training.recipe import Lora, Recipe


@dataclass(frozen=True)
class Step:
    """One optimizer step: a line of metrics.jsonl. `loss` is the mean of its supervised tokens."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    documents: int
    tokens: int
    supervised: int
    seconds: float


Report = Callable[[str], None]
Watch = Callable[[Step], None]


def run(
    recipe: Recipe,
    report: Report = lambda line: None,
    watch: Watch = lambda step: None,
) -> Path:
    """Finetune a model. A run that was killed goes on from its last checkpoint, to the same bits.

    Args:
        report: gets a line for each thing done before and after the steps.
        watch: gets each step when it is done.

    Returns:
        `output`/adapter in peft's format (vLLM serves it), or `output`/model where all weights
        were trained. metrics.jsonl and checkpoint.pt stand beside.

    Raises:
        UsageError: the dataset or the output folder cannot be used.
        MagicoderError: the model cannot be fetched, memory is short, or the loss is not finite.
    """
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    examples = packing.read(recipe.data)
    with _alone(recipe.output), _memory_is_told(recipe):
        # The data: tokens, and who shares a step with whom
        source = models.pull(recipe.model, report)
        tokenizer = AutoTokenizer.from_pretrained(source)
        documents, cut = packing.tokenize(examples, tokenizer, recipe.prompt, recipe.max_length)
        if not documents:
            raise UsageError(f"every prompt passes max_length={recipe.max_length}: raise it")
        tokens = sum(map(len, documents))
        told = "".join(f", {count} {what} at max_length" for what, count in cut.items())
        report(f"{len(documents)} documents, {tokens} tokens{told}")
        batches = list(_batches(len(documents), recipe))

        # The model
        model: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=getattr(torch, recipe.dtype), attn_implementation=ATTENTION
        ).to(device)
        backbone = model.base_model  # without the projection, which the loss owns
        if recipe.lora:
            model = _with_lora(model, recipe.lora)
        model = kernelize(model.train())
        if _documents_meet(backbone, device):
            raise MagicoderError(
                f"{recipe.model} has layers that mix the documents of a pack: train another model"
            )
        loss_of = SupervisedLoss(model)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        report(f"training {sum(p.numel() for p in trained.values()):,} weights on {device.type}")

        # The optimizer and its schedule
        optimizer = _optimizer(list(trained.values()), recipe)
        schedule = get_linear_schedule_with_warmup(
            optimizer, recipe.optimizer.warmup_steps, len(batches)
        )

        # Where an earlier run stopped
        checkpoint = _Checkpoint(recipe, documents, trained, optimizer, schedule)
        done = checkpoint.restore()
        if done:
            report(f"going on after step {done} of {len(batches)}")
        metrics = _Metrics(recipe.output / "metrics.jsonl", done)

        # The steps
        for number, batch in enumerate(batches[done:], done + 1):
            start = time.perf_counter()
            chosen = [documents[index] for index in batch]
            rows = packing.pack([len(document) for document in chosen], recipe.pack_length)
            packs = [packing.collate([chosen[index] for index in row]) for row in rows]
            supervised = sum(len(pack.rows) for pack in packs)
            loss = torch.zeros((), device=device)
            for pack in packs:
                there = pack.to(device)
                hidden = backbone(
                    input_ids=there.input_ids,
                    position_ids=there.position_ids,
                    cu_seqlens=there.cu_seqlens,
                    lengths=there.lengths,
                    use_cache=False,
                ).last_hidden_state
                part = loss_of(hidden, there) / supervised
                part.backward()  # type: ignore[no-untyped-call]
                loss += part.detach()
            norm = nn.utils.clip_grad_norm_(trained.values(), recipe.optimizer.max_grad_norm)
            rate = schedule.get_last_lr()[0]
            if not loss.isfinite():
                raise MagicoderError(
                    f"the loss is {loss.item()} at step {number}: lower optimizer.learning_rate "
                    f"(now {recipe.optimizer.learning_rate}) and remove {recipe.output}"
                )
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step = Step(
                step=number,
                steps=len(batches),
                loss=loss.item(),
                learning_rate=rate,
                grad_norm=norm.item(),
                documents=len(batch),
                tokens=sum(sum(pack.lengths) for pack in packs),
                supervised=supervised,
                seconds=time.perf_counter() - start,
            )
            metrics.add(step)
            watch(step)
            if number % recipe.checkpoint_every == 0 or number == len(batches):
                checkpoint.save(number)

        # What the run was for
        return _export(model, tokenizer, recipe)


@torch.no_grad()
def _documents_meet(backbone: Any, device: torch.device) -> bool:
    """Whether a document's hidden states depend on the one before it: state-space layers, say."""
    random = _random_state()
    states = []
    for first in (1, 2):
        pack = packing.collate(
            [Document([first] * 8, [IGNORED] * 8), Document([3, 4, 5, 6] * 2, [])]
        )
        there = pack.to(device)
        _set_random_state(random)
        hidden = backbone(
            input_ids=there.input_ids,
            position_ids=there.position_ids,
            cu_seqlens=there.cu_seqlens,
            lengths=there.lengths,
            use_cache=False,
        ).last_hidden_state
        states.append(hidden[0, 8:])
    _set_random_state(random)
    return not torch.equal(*states)


def _batches(count: int, recipe: Recipe) -> Iterator[list[int]]:
    """The documents of each step, in an order that the seed and the epoch alone decide."""
    for epoch in range(recipe.epochs):
        order = list(range(count))
        random.Random(f"{recipe.seed}:{epoch}").shuffle(order)  # noqa: S311
        for start in range(0, count, recipe.batch_size):
            yield order[start : start + recipe.batch_size]


def _with_lora(model: nn.Module, chosen: Lora) -> Any:
    config = LoraConfig(
        r=chosen.rank,
        lora_alpha=chosen.alpha,
        lora_dropout=chosen.dropout,
        target_modules=chosen.targets,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(f"key 'lora.targets' is {chosen.targets!r}: {error}") from None


def _optimizer(weights: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Adafactor as the paper's Trainer sets it up: with a rate of its own, not a relative one."""
    chosen = recipe.optimizer
    common: dict[str, Any] = {"lr": chosen.learning_rate, "weight_decay": chosen.weight_decay}
    if chosen.name == "adamw":
        return torch.optim.AdamW(weights, **common)
    if chosen.name == "adamw8bit":
        return AdamW8bit(weights, **common)
    found: torch.optim.Optimizer = Adafactor(
        weights, scale_parameter=False, relative_step=False, **common
    )
    return found


class _Checkpoint:
    """One file with all that the next step depends on; it replaces the last one in one move."""

    def __init__(
        self,
        recipe: Recipe,
        documents: list[Document],
        trained: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self._path = recipe.output / "checkpoint.pt"
        said = recipe.model_dump_json(exclude={"output", "data", "checkpoint_every"})
        told = json.dumps([said, [(document.ids, document.labels) for document in documents]])
        self._run = hashlib.sha256(told.encode()).hexdigest()
        self._trained, self._optimizer, self._schedule = trained, optimizer, schedule

    def save(self, step: int) -> None:
        part = self._path.with_suffix(".part")
        content = {
            "run": self._run,
            "step": step,
            "weights": {name: weight.data for name, weight in self._trained.items()},
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": _random_state(),
        }
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._path)

    def restore(self) -> int:
        """The last step that is done, 0 for none.

        Raises:
            UsageError: the checkpoint is another run's.
        """
        if not self._path.is_file():
            return 0
        content = torch.load(self._path, map_location="cpu", weights_only=True)
        if content["run"] != self._run:
            raise UsageError(
                f"{self._path} belongs to another recipe or dataset: set output to another folder, "
                "or remove it"
            )
        for name, weight in self._trained.items():
            weight.data.copy_(content["weights"][name])
        self._optimizer.load_state_dict(content["optimizer"])
        # load_state_dict rounds float32 state to the weight's dtype; Adafactor's must not be
        for index, weight in enumerate(self._trained.values()):
            for key, value in content["optimizer"]["state"][index].items():
                exact = value.to(weight.device) if isinstance(value, Tensor) else value
                self._optimizer.state[weight][key] = exact
        self._schedule.load_state_dict(content["schedule"])
        _set_random_state(content["random"])
        step: int = content["step"]
        return step


def _random_state() -> list[Tensor]:
    state = [torch.get_rng_state()]
    return state + torch.cuda.get_rng_state_all() if torch.cuda.is_available() else state


def _set_random_state(state: list[Tensor]) -> None:
    torch.set_rng_state(state[0])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state[1:])


class _Metrics:
    """metrics.jsonl: a line a step, without those that a killed run did after its checkpoint."""

    def __init__(self, path: Path, done: int) -> None:
        self._path = path
        kept = path.read_text().splitlines()[:done] if path.is_file() else []
        part = path.with_suffix(".part")
        part.write_text("".join(line + "\n" for line in kept))
        os.replace(part, path)

    def add(self, step: Step) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(vars(step)) + "\n")


def _export(model: Any, tokenizer: Any, recipe: Recipe) -> Path:
    """Write the adapter or the model, whole or not at all."""
    target = recipe.output / ("adapter" if recipe.lora else "model")
    part, old = target.with_suffix(".part"), target.with_suffix(".old")
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    if recipe.lora:
        known = models.find(recipe.model)
        fetched = known is not None and not known.source.startswith("wheel:")
        name = known.source if known and fetched else recipe.model
        model.peft_config["default"].base_model_name_or_path = name
        # False: deciding it by itself, peft asks the hub whether the vocabulary grew
        model.save_pretrained(part, save_embedding_layers=False)
        (part / "README.md").unlink()  # peft's, with every line still to be filled in
    else:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    if target.exists():
        os.replace(target, old)
    os.replace(part, target)
    shutil.rmtree(old, ignore_errors=True)
    return target


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep a second run out of the folder while this one lasts."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with FileLock(output / ".lock", timeout=0):
            yield
    except Timeout:
        raise UsageError(
            f"another run trains into {output}: set output to another folder"
        ) from None
    except (FileExistsError, PermissionError) as error:
        reason = error.strerror
        raise UsageError(f"cannot write to {output} ({reason}): set output to a folder") from None


@contextmanager
def _memory_is_told(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # the CPU's allocator has no error of its own
        told = "out of memory" in str(error) or "can't allocate memory" in str(error)
        if isinstance(error, RuntimeError) and not told:
            raise
        raise MagicoderError(
            f"out of memory: lower pack_length (now {recipe.pack_length}) and max_length "
            f"(now {recipe.max_length}), or train an adapter (lora) or a smaller model"
        ) from None
