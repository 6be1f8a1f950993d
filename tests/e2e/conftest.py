"""The real server with the embedded model, one for all tests of a session."""

from collections.abc import Iterator

import pytest

from magicoder import models
from magicoder.server.process import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`magicoder serve` with the embedded model; `.base_url` is its address."""
    log = tmp_path_factory.mktemp("server") / "serve.log"
    with Server(models.DEFAULT, log=log) as running:
        yield running
