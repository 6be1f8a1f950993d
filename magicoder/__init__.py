"""Magicoder: the open code assistant that is yours end to end.

    from magicoder import Magicoder

    print(Magicoder().infill("def add(a, b):\\n    return ", "\\n").text)

The rooms `magicoder.server`, `magicoder.lsp`, `magicoder.training` and `magicoder.custom_kernels`
live in top-level folders of the repository; ARCHITECTURE.md has the map.
"""

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from magicoder.client import AsyncMagicoder, Magicoder
    from magicoder.errors import MagicoderError

__version__ = "0.1.0"
__all__ = ["AsyncMagicoder", "Magicoder", "MagicoderError", "__version__"]

# From the repository root this folder hides an installed wheel, which holds the other rooms.
__path__ = extend_path(__path__, __name__)

_HOME = {
    "AsyncMagicoder": "magicoder.client",
    "Magicoder": "magicoder.client",
    "MagicoderError": "magicoder.errors",
}


def __getattr__(name: str) -> Any:
    """Import the client only when it is used: `magicoder --help` must be instant."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
