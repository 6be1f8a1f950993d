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
        KeyError: no prompt has that name, or a value has no placeholder in it.
    """
    text = _texts()[name]
    found = set(re.findall(r"\{(\w+)\}", text))
    if missing := values.keys() - found:
        raise KeyError(f"prompt {name} has no placeholder {sorted(missing)}")
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)
