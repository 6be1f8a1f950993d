"""The method's own prompts (paper, figure 2), constants to the letter in prompts.json beside this.

Models and comparisons depend on every character of them; only the placeholders are filled here,
by plain replacement, since code is full of braces.
"""

import json
import re
from functools import cache
from importlib.resources import files


@cache
def _texts() -> dict[str, str]:
    texts: dict[str, str] = json.loads(files("magicoder").joinpath("prompts.json").read_text())
    return texts


def fill(name: str, **values: str) -> str:
    """The prompt `name` with its placeholders filled.

    Raises:
        KeyError: no prompt has that name, or the values are not those of its placeholders.
    """
    text = _texts()[name]
    if values.keys() != (wanted := set(re.findall(r"\{(\w+)\}", text))):
        raise KeyError(f"prompt {name} takes {sorted(wanted)}, not {sorted(values)}")
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], text)
