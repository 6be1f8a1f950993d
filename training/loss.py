"""The loss over a pack. It owns the output projection: only rows that are trained on pass it."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from magicoder.custom_kernels.linear_cross_entropy import linear_cross_entropy
from magicoder.training.packing import Pack


class SupervisedLoss:
    """Cross-entropy of the next token, summed, so that the mean over any batch is exact.

    A prompt's rows are never projected: with a vocabulary of 49,152 their logits would be the
    largest tensor of the step.
    """

    def __init__(self, model: nn.Module) -> None:
        """`model` is a causal language model of transformers, or peft's wrapper of one."""
        self._projection = model.get_output_embeddings()  # type: ignore[operator]
        config = model.config
        self._scale = 1 / (getattr(config, "logits_scaling", None) or 1.0)  # Granite
        self._cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2

    def __call__(self, hidden: Tensor, pack: Pack) -> Tensor:
        """The sum over the pack's targets.

        Args:
            hidden: `(1, T, hidden)`, what the model's last norm gives.

        Returns:
            A float32 scalar; 0 where nothing is trained on.
        """
        projection = self._projection
        if type(projection) is nn.Linear:
            return linear_cross_entropy(
                hidden[0],
                projection.weight,
                pack.targets,
                pack.rows,
                bias=projection.bias,
                softcap=self._cap,
                scale=self._scale,
            ).total
        # An adapter on the projection, or a quantised one: the layer alone knows its logits
        logits = projection(hidden[0, pack.rows.to(hidden.device)]).float() * self._scale
        if self._cap:
            logits = self._cap * (logits / self._cap).tanh()
        return F.cross_entropy(logits, pack.targets.to(hidden.device), reduction="sum")
