"""Infilling inside vLLM's own rendering, for requests that come with a `suffix`."""

import copy
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.renderers.hf import HfRenderer

from magicoder import fim


class FimRenderer(HfRenderer):  # type: ignore[misc]
    """vLLM's renderer for tokenizers of transformers, which also knows infilling formats.

    infiller: the tokenizer with its format, or None if its vocabulary holds none.
    """

    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        rows = config.model_config.get_vocab_size()
        # Its own copy: vLLM's threads change the truncation of theirs while they encode.
        self.infiller = None if tokenizer is None else fim.detect(copy.deepcopy(tokenizer), rows)

    def render_completion_suffix(self, prompt: str, suffix: str) -> list[int]:
        """The prompt's token ids, which vLLM takes where it asks for a string.

        A string would be parsed for control tokens, so that the user's text could hold them.
        The request's `max_tokens` is unknown here: a quarter of the context is left for the answer.
        """
        if self.infiller is None:
            raise VLLMValidationError(
                "this model has no fill-in-the-middle (FIM) tokens: leave out 'suffix', or serve "
                "a model that has them",
                parameter="suffix",
            )
        context = self.model_config.max_model_len
        return self.infiller.render(prompt, suffix, context - context // 4)
