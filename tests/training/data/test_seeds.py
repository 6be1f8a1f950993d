"""The whole step over real files: order, counts, licenses, books; and its command."""

import json
from collections import Counter

import pytest
from click.testing import CliRunner

from magicoder.cli import cli
from magicoder.errors import MagicoderError
from magicoder.training.data import runner, seeds
from magicoder.training.data.records import Rejected, Seed
from magicoder.training.data.seeds import Seeds

SUFFIXES = ("py", "rs", "go")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def project(root, count, spdx="MIT"):
    """`count` unlike files of Python, Rust and Go each, of 20 lines."""
    root.mkdir()
    for suffix in SUFFIXES:
        mark = "#" if suffix == "py" else "//"
        for number in range(count):
            name = f"{root.name}_{suffix}_{number}"
            lines = [f"{name}_{line} = {name} + {line}" for line in range(20)]
            head = f"{mark} SPDX-License-Identifier: {spdx}"
            (root / f"f{number}.{suffix}").write_text("\n".join([head, *lines]) + "\n")
    return f"dir:{root}"


def run(output, *sources, shard=None, **config):
    made = seeds.step(Seeds(sources=sources, **config))
    funnel = runner.run(made, output, shard=shard)
    return [Seed.model_validate_json(line) for line in output.open()], funnel


def test_one_seed_a_document_under_its_license_and_origin(tmp_path):
    source = project(tmp_path / "a", 10)
    found, funnel = run(tmp_path / "seeds.jsonl", source)
    assert len({seed.path for seed in found}) == len(found) == 30
    for seed in found:
        lines = (tmp_path / "a" / seed.path).read_text().split("\n")
        taken = seed.code.split("\n")
        assert lines[seed.line - 1 : seed.line - 1 + len(taken)] == taken
        assert (seed.origin, seed.license) == ("dir:a", "MIT")
    names = [counts.stage for counts in funnel.stages]
    assert names == ["documents", "licenses", "hygiene", "distinct", "seeds", "secrets"]


def test_the_seed_alone_decides(tmp_path):
    source = project(tmp_path / "a", 10)
    outputs = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        run(tmp_path / f"{name}.jsonl", source, seed=seed, count=12)
        outputs.append((tmp_path / f"{name}.jsonl").read_bytes())
    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


def test_a_document_s_seed_does_not_depend_on_its_neighbours(tmp_path):
    source = project(tmp_path / "a", 10)
    before = {seed.path: seed for seed in run(tmp_path / "one.jsonl", source)[0]}
    for path in (tmp_path / "a").glob("*.rs"):
        path.unlink()
    after, _ = run(tmp_path / "two.jsonl", source)
    assert len(after) == 20
    assert all(before[seed.path] == seed for seed in after)


def test_sources_take_turns_whatever_their_size_and_order(tmp_path):
    large, small = project(tmp_path / "large", 30), project(tmp_path / "small", 2)
    found, _ = run(tmp_path / "one.jsonl", large, small, count=12)
    assert Counter(seed.origin for seed in found) == {"dir:large": 6, "dir:small": 6}
    assert run(tmp_path / "two.jsonl", small, large, count=12)[0] == found


def test_a_count_for_each_language(tmp_path):
    source = project(tmp_path / "a", 10)
    found, funnel = run(tmp_path / "seeds.jsonl", source, count={"python": 4, "Rust": 2})
    assert Counter(seed.language for seed in found) == {"python": 4, "rust": 2}
    assert funnel.stages[0].count_out == 6  # a language that has its seeds is read no more
    more, _ = run(tmp_path / "more.jsonl", source, count={"python": 400, "rust": 2})
    assert Counter(seed.language for seed in more) == {"python": 10, "rust": 2}


def test_only_these_languages(tmp_path):
    found, _ = run(tmp_path / "seeds.jsonl", project(tmp_path / "a", 3), languages=["golang"])
    assert {seed.language for seed in found} == {"go"}
    assert len(found) == 3


def test_licenses_are_held_against_the_list(tmp_path):
    free = project(tmp_path / "free", 2)
    copyleft = project(tmp_path / "copyleft", 2, "GPL-3.0-only")
    odd = project(tmp_path / "odd", 2, "Proprietary")
    found, funnel = run(tmp_path / "seeds.jsonl", free, copyleft, odd)
    assert {seed.origin for seed in found} == {"dir:free"}
    assert funnel.stages[1].rejected == {"license not allowed": 6, "license unknown": 6}
    found, _ = run(tmp_path / "seeds.jsonl", free, copyleft, odd, licenses=["GPL-3.0-only"])
    assert {seed.origin for seed in found} == {"dir:copyleft"}
    found, _ = run(tmp_path / "seeds.jsonl", free, copyleft, odd, licenses="any")
    assert len(found) == 18


def test_shards_together_are_one_run(tmp_path):
    source = project(tmp_path / "a", 10)
    (tmp_path / "a" / "mail.py").write_text(
        "# SPDX-License-Identifier: MIT\n" + "write = 'to'  # me@files.org\n" * 20
    )
    run(tmp_path / "whole.jsonl", source)
    parts = [tmp_path / f"{number}.jsonl" for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        run(part, source, shard=runner.Shard(number, 3))
    merged = runner.merge(parts, tmp_path / "merged.jsonl")
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    whole = runner.funnel_of(tmp_path / "whole.jsonl")
    assert merged.account == whole.account
    assert whole.account["redacted"]["EMAIL"] > 0


def test_a_source_that_cannot_be_fetched_loses_no_other(tmp_path):
    source = project(tmp_path / "a", 2)
    found, funnel = run(tmp_path / "seeds.jsonl", "pypi:absent-package", source)
    assert len(found) == 6
    assert funnel.stages[0].rejected == {"source cannot be fetched": 1}
    (row,) = map(json.loads, (tmp_path / "seeds.rejects.jsonl").open())
    assert row["record"]["origin"] == "pypi:absent-package"
    assert "absent-package" in row["detail"]


def test_if_none_can_be_fetched_it_is_an_error(tmp_path):
    message = r"pypi:absent-\w+ cannot be fetched: .* \(1 more cannot be fetched\)"
    with pytest.raises(MagicoderError, match=message):
        run(tmp_path / "seeds.jsonl", "pypi:absent-one", "pypi:absent-two")
    assert not (tmp_path / "seeds.jsonl").exists()


def test_rejects_hold_no_text_of_documents(tmp_path):
    source = project(tmp_path / "a", 2, "GPL-3.0-only")
    made = seeds.step(Seeds(sources=(source,)))
    documents = made.stages["documents"](iter(()))
    refused = list(made.stages["licenses"](documents))
    assert len(refused) == 6
    assert all(isinstance(item, Rejected) and item.record.text == "" for item in refused)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sources": ["somewhere"]}, "no source 'somewhere': write dir:..., git:..."),
        ({"sources": ["dir:"]}, "no source 'dir:'"),
        ({"sources": []}, "at least 1"),
        ({"languages": ["klingon"]}, "no language 'klingon': use one of python,"),
        ({"count": {"klingon": 3}}, "no language 'klingon'"),
        ({"count": 0}, "whole number above 0"),
        ({"extractor": "magic"}, "no extractor 'magic': use one of paper, syntax"),
        ({"licenses": ["nonsense"]}, "no license 'nonsense'"),
        ({"color": 1}, "color"),
    ],
)
def test_a_config_that_cannot_be_used_says_so(config, message):
    with pytest.raises(ValueError, match="Seeds") as error:
        Seeds(**{"sources": ["dir:x"], **config})
    assert message in str(error.value)


def test_the_command(tmp_path):
    source = project(tmp_path / "a", 3)
    (tmp_path / "a" / "g.py").write_text(
        "# SPDX-License-Identifier: ISC\ndef f(x):\n    y = x\n    return y\n"
    )
    output = tmp_path / "out" / "seeds.jsonl"
    arguments = ["data", "seeds", source, "-o", str(output), "--extractor", "syntax"]
    done = CliRunner().invoke(cli, [*arguments, "--languages", "python,rust", "--licenses", "ISC"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{output}\n"
    (row,) = map(json.loads, output.open())
    assert (row["kind"], row["line"], row["license"]) == ("function", 2, "ISC")
    assert row["code"] == "def f(x):\n    y = x\n    return y"


def test_the_command_counts_each_language(tmp_path):
    output = tmp_path / "s.jsonl"
    source = project(tmp_path / "a", 3)
    arguments = ["data", "seeds", source, "-o", str(output), "--count", "python=2,go=1"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert Counter(json.loads(line)["language"] for line in output.open()) == {"python": 2, "go": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "many"], "no count 'many': write 1000, or python=500,rust=60"),
        (["--count", "python=x"], "no count 'python=x'"),
        (["--languages", "klingon"], "no language 'klingon'"),
    ],
)
def test_the_command_names_what_it_cannot_read(tmp_path, arguments, message):
    output = tmp_path / "s.jsonl"
    done = CliRunner().invoke(cli, ["data", "seeds", "dir:x", "-o", str(output), *arguments])
    assert done.exit_code != 0
    assert message in str(done.exception)
    assert not output.exists()


def test_secrets_are_counted_over_all_seeds():
    found = Counter()
    given = [
        Seed(origin="o", path="p", language="python", code=code)
        for code in ("a@web.de, b@web.de", "x = 1", "c@web.de at 10.1.2.3")
    ]
    out = list(seeds.without_secrets(iter(given), found=found))
    assert [seed.code for seed in out] == ["<EMAIL>, <EMAIL>", "x = 1", "<EMAIL> at <HOST>"]
    assert found == {"EMAIL": 3, "HOST": 1}
