"""Pictures of the records: the shares and the memory of one kernel, and all kernels' roofline."""

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# By peer, so that a colour means the same in every picture; ours stands out
COLORS = {
    "magicoder": "#d9480f",
    "pytorch": "#5c7cfa",
    "torch.compile": "#364fc7",
    "liger": "#2b8a3e",
    "cut cross-entropy": "#7048e8",
    "trl": "#e8b500",
    "torch varlen": "#1098ad",
    "bitsandbytes": "#868e96",
}
STANDS_IN = "PyTorch in the kernel's place: proves the harness alone"
SPARE = ("#91a7ff", "#8ce99a", "#b197fc", "#66d9e8", "#ced4da")
POINTS = ("pytorch", "magicoder")
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def kernel(record: dict[str, Any], figure: Any) -> None:
    """Shares of what the chip allows, forward and both, and the memory taken, by model and peer."""
    rows = [row for row in record["speed"] if "failed" not in row]
    panels = {"forward_share": "forward", "both_share": "forward and backward"}
    if not any("both_share" in row for row in rows):
        panels = {"forward_share": "a step"}
    memory, title = _memory(rows)
    axes = figure.subplots(1, len(panels) + 1)
    for place, (share, what) in zip(axes, panels.items(), strict=False):
        top = max((row[share] for row in rows), default=1)
        _bars(place, rows, share, 100)
        place.axhline(100, color="black", linewidth=0.8, linestyle="--")
        place.set_ylim(0, max(105, 108 * top))
        place.set_title(what, fontsize=10)
        place.set_ylabel("% of what the device allows", fontsize=9)
    _bars(axes[-1], rows, memory, 1 / 2**20)
    axes[-1].set_title(title, fontsize=10)
    axes[-1].set_ylabel("MiB", fontsize=9)
    sizes = [row[memory] for row in rows if row.get(memory)]
    if sizes and max(sizes) > 30 * min(sizes):
        axes[-1].set_yscale("log")
        axes[-1].yaxis.set_major_formatter("{x:,g}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.suptitle(_heading(record), x=0.01, ha="left", fontsize=12, fontweight="bold")


def _heading(record: dict[str, Any]) -> str:
    heading = f"{record['title']} on {record['machine']['device']}"
    return heading if record["runs"] == "the kernel" else f"{heading}, {STANDS_IN}"


def _memory(rows: list[dict[str, Any]]) -> tuple[str, str]:
    """Which memory is there to draw: the peak on a GPU, what autograd keeps elsewhere."""
    if any("state_bytes" in row for row in rows):
        return "state_bytes", "kept between steps"
    both = "both" if any("both_s" in row for row in rows) else "forward"
    if any(row.get(f"{both}_peak_bytes") is not None for row in rows):
        return f"{both}_peak_bytes", "peak memory above the inputs"
    return "saved_bytes", "kept for the backward"


def _bars(axes: Any, rows: list[dict[str, Any]], key: str, factor: float) -> None:
    """One group a model, one bar a peer."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    first = {row["peer"]: row for row in reversed(rows)}
    width = 0.84 / max(1, len(peers))
    for row in rows:
        place = peers.index(row["peer"])
        axes.bar(
            models.index(row["model"]) + (place - len(peers) / 2 + 0.5) * width,
            row.get(key, 0) * factor,
            0.92 * width,
            color=color(row["peer"], peers),
            label=row["peer"] if row is first[row["peer"]] else None,
        )
    axes.set_xticks(range(len(models)), models)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e9ecef")
    axes.set_axisbelow(True)


def color(peer: str, peers: list[str]) -> str:
    others = [name for name in peers if name not in COLORS]
    return COLORS.get(peer) or SPARE[others.index(peer) % len(SPARE)]


def roofline(records: list[dict[str, Any]], figure: Any) -> None:
    """Operations a second over operations a byte: ours and PyTorch's beside the measured roofs.

    A kernel on the roof moves no byte and does no operation too many, as fast as the chip can.
    """
    bandwidth = max(record["ceilings"]["copy_bytes_a_second"] for record in records)
    rate = max(record["ceilings"]["flops_a_second"] for record in records)
    axes = figure.subplots()
    groups = [(record, list(_points(record))) for record in records]
    places = [place for _, pairs in groups for pair in pairs for place in pair.values()]
    if not places:
        return
    knee = rate / bandwidth
    left, right = min(x for x, _ in places) / 3, 4 * max(knee, *(x for x, _ in places))
    low = min(y for _, y in places) / 5
    roof = [left, knee, right]
    heights = [min(rate, x * bandwidth) for x in roof]
    axes.plot(roof, heights, color="#212529", linewidth=1.8)
    axes.fill_between(roof, heights, low, color="#f8f9fa")
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, rate * 3))
    for (record, pairs), mark in zip(groups, itertools.cycle(MARKS)):
        for pair in pairs:
            if len(pair) == 2:
                axes.plot(*zip(*pair.values(), strict=True), color="#ced4da", zorder=1)
            for peer, place in pair.items():
                look = COLORS[peer] if peer == "magicoder" else "white"
                axes.scatter(*place, marker=mark, s=44, facecolor=look, edgecolor=COLORS[peer],
                             zorder=3 if peer == "magicoder" else 2)  # fmt: skip
        if pairs:
            axes.scatter([], [], marker=mark, s=44, color="#495057", label=record["title"])
    axes.scatter([], [], color=COLORS["magicoder"], label="filled: ours")
    axes.scatter([], [], facecolor="white", edgecolor=COLORS["pytorch"], label="open: PyTorch")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    told = {"fontsize": 9, "color": "#495057", "textcoords": "offset points"}
    axes.annotate(
        f"matrix products {_rate(rate)}FLOP/s", (right, rate), (-6, 5), ha="right", **told
    )
    start = 1.3 * left
    turn = axes.annotate(
        f"copies {_rate(bandwidth)}B/s", (start, start * bandwidth), (0, 5), **told
    )
    axes.set_xlabel("operations for each byte that has to move")
    axes.set_ylabel("operations a second")
    axes.grid(color="#e9ecef", which="major")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    title = f"Forward and backward on {records[0]['machine']['device']} under the measured roofline"
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    if any(record["runs"] != "the kernel" for record in records):
        axes.text(0.99, 0.02, STANDS_IN, transform=axes.transAxes, ha="right", fontsize=9)
    figure.draw_without_rendering()  # only now the angle of the roof on paper is known
    (x0, y0), (x1, y1) = axes.transData.transform([(left, heights[0]), (knee, rate)])
    turn.set(rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)), rotation_mode="anchor")


def _points(record: dict[str, Any]) -> Iterator[dict[str, tuple[float, float]]]:
    """Where PyTorch and we stand, by model."""
    for model in dict.fromkeys(row["model"] for row in record["speed"]):
        found = {}
        for row in record["speed"]:
            if row["model"] == model and row["peer"] in POINTS and "failed" not in row:
                what = "both" if "both_s" in row else "forward"
                flops, size = row[f"{what}_flops"], row[f"{what}_bytes"]
                found[row["peer"]] = flops / size, flops / row[f"{what}_s"]
        yield found


def _rate(value: float) -> str:
    """1.5e12 as "1.5 T"."""
    for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} "


def records(folder: Path, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """What has been measured so far, in this order."""
    paths = (folder / f"{name}.json" for name in names)
    return [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]
