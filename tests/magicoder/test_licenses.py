"""Licences against SPDX's own identifiers and texts."""

from pathlib import Path

import pytest

from magicoder import licenses
from magicoder.errors import UsageError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("mit", "MIT"),
        ("MIT License", "MIT"),
        ("Expat", "MIT"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("Apache-2.0 or Expat", "Apache-2.0 OR MIT"),
        ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("(MIT OR Apache-2.0)", "MIT OR Apache-2.0"),
        ("BSD-3-clause and Expat", "BSD-3-Clause AND MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GPL-3", "GPL-3.0-only"),
        ("GPL-2.0-only WITH Classpath-exception-2.0",) * 2,
        ("BSD", ""),
        ("BSD License", ""),
        ("Proprietary", ""),
        ("SEE LICENSE IN LICENSE.txt", ""),
        ("UNLICENSED", ""),
        ("MIT AND (", ""),
        ("", ""),
    ],
)
def test_what_packages_write_as_spdx(text, spdx):
    assert licenses.normalise(text) == spdx


@pytest.mark.parametrize(
    ("expression", "allowed", "reason"),
    [
        ("MIT", ["MIT"], None),
        ("MIT", ["Apache-2.0"], "license not allowed"),
        ("GPL-3.0-only OR MIT", ["MIT"], None),
        ("GPL-3.0-only AND MIT", ["MIT"], "license not allowed"),
        ("MIT AND (GPL-2.0-only OR Apache-2.0)", ["MIT", "Apache-2.0"], None),
        ("MIT AND (GPL-2.0-only OR Apache-2.0)", ["MIT"], "license not allowed"),
        ("Apache-2.0 WITH LLVM-exception", ["Apache-2.0"], None),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ["permissive"], "license not allowed"),
        ("BSD-3-Clause", ["permissive"], None),
        ("Unlicense", ["permissive"], None),
        ("MPL-2.0", ["permissive"], "license not allowed"),
        ("MPL-2.0", ["permissive", "MPL-2.0"], None),
        ("AGPL-3.0-only", ["any"], None),
        ("", ["permissive"], "license unknown"),
        ("", ["any"], None),
    ],
)
def test_an_allow_list_over_expressions(expression, allowed, reason):
    assert licenses.refusal(expression, allowed) == reason


def test_one_unknown_part_makes_the_whole_unknown():
    assert licenses.either(["MIT", "Apache-2.0", "MIT"]) == "MIT OR Apache-2.0"
    assert licenses.all_of(["MIT", "GPL-2.0-only OR ISC"]) == "MIT AND (GPL-2.0-only OR ISC)"
    assert licenses.either(["MIT", ""]) == licenses.all_of(["", "MIT"]) == ""
    assert licenses.either([]) == ""


def test_a_license_text_is_recognised(tmp_path):
    assert licenses.recognise(ROOT / "LICENSE") == "Apache-2.0"
    other = tmp_path / "LICENSE"
    other.write_text("You may use this on Sundays.\n")
    assert licenses.recognise(other) == ""
    other.write_bytes(b"caf\xe9")
    assert licenses.recognise(other) == ""


def test_an_allow_list_names_what_it_does_not_know():
    assert licenses.check(["mit", "Permissive"]) == ("MIT", "permissive")
    with pytest.raises(UsageError, match="no license 'nonsense'"):
        licenses.check(["nonsense"])
