"""Texts as vectors, by a model of sentence-transformers."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from magicoder.errors import MagicoderError, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]  # (texts, dimensions), rows of length 1


def embed(texts: Sequence[str], model: str, *, tokens: int | None = None) -> "Vectors":
    """Unit vectors, (texts, dimensions), of `model`: a hub name or a folder.

    tokens: how many of each text are read, from its beginning; None takes what the model can.

    Raises:
        MagicoderError: the model cannot be had.
    """
    encoder = _encoder(model)
    longest = encoder.max_seq_length
    encoder.max_seq_length = tokens or longest
    try:
        found: Vectors = encoder.encode(
            list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
    finally:
        encoder.max_seq_length = longest
    return found


@cache
def _encoder(model: str) -> Any:
    library = require("sentence_transformers", "data")
    require("transformers.utils.logging", "data").disable_progress_bar()
    require("huggingface_hub.utils.logging", "data").set_verbosity_error()
    try:
        return library.SentenceTransformer(model)
    except (OSError, ValueError) as error:
        raise MagicoderError(
            f"the embedding model '{model}' cannot be loaded ({str(error).splitlines()[0]}): name "
            "another or a folder (--embedding, MAGICODER_EMBEDDING), or do without it (none)"
        ) from None
