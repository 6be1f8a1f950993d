"""Turns figures into the page, the card and the JSON; the same figures give the same bytes."""

import re
from pathlib import Path
from typing import Any

from magicoder.errors import require
from magicoder.training.data.report.census import NO_LICENSE, NO_SEED
from magicoder.training.data.report.figures import PAPER, Figures, Step

SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
LICENSES = {
    *("afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause"),
    *("bsl-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "epl-1.0", "epl-2.0", "eupl-1.2"),
    *("gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0", "ms-pl", "ncsa"),
    *("osl-3.0", "postgresql", "unlicense", "wtfpl", "zlib"),
}
"""The hub's words for licences; what it has no word for is `other`."""
UNKNOWN = (NO_LICENSE, NO_SEED)


def files(figures: Figures) -> dict[str, str]:
    """The text of each file by its name."""
    return {
        "index.html": _text("page.html.jinja", figures),
        "README.md": _header(figures) + _text("card.md.jinja", figures),
        "report.json": figures.model_dump_json(indent=1) + "\n",
    }


def _text(template: str, figures: Figures) -> str:
    jinja2 = require("jinja2", "data")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.jinja"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "cell": cell,
        "accounts": accounts,
    }
    text: str = environment.get_template(template).render(figures=figures, paper=PAPER)
    return text


def _header(figures: Figures) -> str:
    """The card's YAML, in the hub's words (huggingface.co/docs/hub/datasets-cards)."""
    size = next((word for most, word in SIZES.items() if figures.samples < most), "n>1M")
    header = {
        "pretty_name": figures.name,
        "license": hub_licenses([found.name for found in figures.licenses]),
        "language": ["en"],
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "tags": ["code", "synthetic", "oss-instruct", "instruction-tuning", "magicoder"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }
    yaml = require("yaml", "data")
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n"


def hub_licenses(expressions: list[str]) -> list[str]:
    """The hub's words for SPDX expressions, each once, in their order of the alphabet."""
    words = set()
    for expression in expressions:
        if expression in UNKNOWN:
            words.add("unknown")
            continue
        for name in re.sub(r"\bWITH\s+\S+|\b(AND|OR)\b|[()]", " ", expression).split():
            bare = re.sub("(-only|-or-later|\\+)$", "", name).lower()
            words.add(bare if bare in LICENSES else "other")
    return sorted(words)


def number(value: float | None) -> str:
    """1234567 -> 1,234,567; 21.553 -> 21.6; 0.1049 -> 0.105; None -> a dash."""
    if value is None:
        return "–"
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"


def percent(part: float | None, whole: float) -> str:
    """27, 40 -> 67.5%; a dash where there is no part or no whole."""
    return "–" if part is None or not whole else f"{100 * part / whole:.1f}%"


def cell(text: object) -> str:
    """Text that stays inside its cell of a Markdown table, and shows as it is."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", line)


def accounts(steps: list[Step]) -> list[tuple[str, list[str]]]:
    """One row a figure, one column a step; a dash where a step has no such figure."""
    columns = [_flat(step.account) for step in steps]
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, [column.get(name, "–") for column in columns]) for name in names]


def _flat(account: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """The values of nested tables under their paths in words."""
    rows: dict[str, str] = {}
    for key, value in account.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            rows |= _flat(value, f"{name}: ")
        else:
            rows[name] = number(value) if isinstance(value, int | float) else str(value)
    return rows
