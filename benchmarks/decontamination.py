"""Recall and false positives of decontamination, per layer and for all together.

    MAGICODER_BENCHMARKS=FOLDER python -m benchmarks.decontamination [--embedding NAME|FOLDER]

Planted: HumanEval rephrased by a model (lm-sys/llm-decontaminator), in FOLDER/decontamination, as
bare code and with its docstring as the problem; and every task of MBPP+ to the letter. Clean:
10,000 documented functions of what is installed. The defaults' thresholds were chosen on the even
rows of both; the odd rows are reported apart.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure, texts
from magicoder.training.data import benchmarks
from magicoder.training.data.clean import LAYERS, Clean
from magicoder.training.data.clean.layers import Hit
from magicoder.training.data.clean.text import batched
from magicoder.training.data.records import Sample

CLEAN = 10_000
_DOCSTRING = re.compile(r'("""|\'\'\')(.*?)\1', re.DOTALL)


def rephrased(folder: Path) -> dict[str, list[Sample]]:
    """The rows as bare code, and with a problem made of their first docstring."""
    path = folder / "decontamination" / "humaneval_python_rephrased.jsonl"
    rows = [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]
    found: dict[str, list[Sample]] = {"code": [], "problem and code": []}
    for row in rows:
        docstring = _DOCSTRING.search(row)
        problem = docstring[2].strip() if docstring else ""
        solution = f"```python\n{row}\n```"
        for form, words in (("code", ""), ("problem and code", problem)):
            found[form].append(Sample(problem=words, solution=solution, language="python"))
    return found


def found(samples: Sequence[Sample], config: Clean, folder: str) -> dict[str, list[Hit | None]]:
    """What each layer by itself finds."""
    tasks = benchmarks.load(folder)
    return {
        name: [hit for batch in batched(samples) for hit in layer(batch)]
        for name in config.layers
        for layer in [LAYERS[name](tasks, config)]
    }


def shares(hits: dict[str, list[Hit | None]], rows: Sequence[int]) -> dict[str, float]:
    """The share of `rows` that each layer finds, each way of finding, and all together."""
    ways = {how: [how] for how in ("exact", "n-grams", "MinHash", "TF-IDF", "embeddings")}
    ways["all layers"] = list(ways)
    return {
        name: sum(
            any(
                hit is not None and hit.how in how
                for hit in (layer[row] for layer in hits.values())
            )
            for row in rows
        )
        / len(rows)
        for name, how in ways.items()
    }


def main(arguments: Sequence[str]) -> int:
    folder = os.environ.get("MAGICODER_BENCHMARKS")
    if not folder:
        print("set MAGICODER_BENCHMARKS to a folder of benchmarks", file=sys.stderr)
        return 2
    config = Clean(embedding=arguments[1]) if arguments[:1] == ["--embedding"] else Clean()
    record: dict[str, Any] = {
        "config": config.model_dump(
            include={"layers", "exact", "ngrams", "minhash", "letters", "meaning"}
        )
    }
    planted = rephrased(Path(folder))
    clean = found(texts.draw(CLEAN), config, folder)
    planted_hits = {form: found(samples, config, folder) for form, samples in planted.items()}
    halves = {
        "all": slice(None),
        "thresholds chosen on": slice(0, None, 2),
        "held out": slice(1, None, 2),
    }
    for half, part in halves.items():
        record[half] = {"false positives": shares(clean, range(CLEAN)[part])}
        for form, samples in planted.items():
            rows = range(len(samples))[part]
            full = [row for row in rows if samples[row].solution.count("\n") > 2]
            hits = planted_hits[form]
            record[half][f"recall, {form}"] = shares(hits, rows)
            record[half][f"recall, {form}, without empty rows"] = shares(hits, full)
            record[half]["rows"], record[half]["rows that are not empty"] = len(rows), len(full)
    tasks = benchmarks.load(folder, ["mbpp-plus"])
    letter = [
        Sample(problem=one.problem, solution=f"```python\n{one.solution}\n```", language="python")
        for one in tasks
    ]
    record["MBPP+ to the letter"] = shares(found(letter, config, folder), range(len(letter)))
    print(measure.write("decontamination", record, measure.results()))
    print(json.dumps(record, indent=1))
    whole = record["all"]
    enough = whole["recall, problem and code, without empty rows"]["all layers"] >= 0.8
    few = whole["false positives"]["all layers"] <= 0.01
    return 0 if enough and few and record["MBPP+ to the letter"]["all layers"] == 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
