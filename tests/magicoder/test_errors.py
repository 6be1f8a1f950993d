"""Errors that a user can mend: exit codes, and extras that are named."""

import pytest

from magicoder import errors


def test_exit_codes():
    assert errors.MagicoderError("x").exit_code == 1
    assert errors.ServerError("x", 503).exit_code == 1
    assert errors.ServerError("x", 503).status == 503
    assert errors.ServerError("x").status is None
    assert errors.UsageError("x").exit_code == 2


def test_a_missing_package_names_the_extra():
    with pytest.raises(errors.MagicoderError, match=r"pip install 'magicoder\[train\]'"):
        errors.require("no_such_package.inner", "train")


def test_a_package_that_is_here_is_imported():
    import json.decoder

    assert errors.require("json.decoder", "train") is json.decoder
