"""`magicoder serve` beside plain vLLM with the same arguments, one after the other.

    python -m benchmarks.server [MODEL]

Start-up until the first answer, time to the first token, and tokens a second, for 1 stream and 16.
"""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, OpenAI

from benchmarks import measure
from magicoder.models import DEFAULT
from magicoder.server import launcher

PROMPT = "Problem {}: write a Python class for a bank account, with a test. " * 8
TOKENS = 64
PATIENCE = 900  # seconds to start


@contextmanager
def started(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, and stop it at the end as Ctrl-C does."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def first_answer(base_url: str, model: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the server has answered a chat.

    Raises:
        RuntimeError: it ended, or does not answer in time.
    """
    end = time.monotonic() + PATIENCE
    messages: Any = [{"role": "user", "content": "Hello"}]
    with OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        while time.monotonic() < end and process.poll() is None:
            try:
                client.chat.completions.create(model=model, messages=messages, max_tokens=1)
            except (APIConnectionError, APIStatusError):
                time.sleep(0.1)
            else:
                return
    raise RuntimeError("the server did not start")


async def load(base_url: str, model: str, streams: int) -> dict[str, float]:
    """Answers of `TOKENS` tokens to `streams` different prompts at once."""

    async def one(client: AsyncOpenAI, number: int) -> float:
        """Seconds to the first token; reads to the end."""
        start, first = time.perf_counter(), 0.0
        answer = await client.completions.create(
            model=model,
            prompt=PROMPT.replace("{}", f"{streams}-{number}"),
            max_tokens=TOKENS,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        async for _ in answer:
            first = first or time.perf_counter() - start
        return first

    start = time.perf_counter()
    async with AsyncOpenAI(base_url=base_url, api_key="none", timeout=600) as client:
        firsts = await asyncio.gather(*(one(client, number) for number in range(streams)))
    seconds = time.perf_counter() - start
    return {
        "ttft_median_s": statistics.median(firsts),
        "tokens_a_second": streams * TOKENS / seconds,
    }


def servers(model: str) -> Iterator[tuple[str, str, list[str], dict[str, str]]]:
    """Name, base URL, command and environment of each."""
    port = _free_port()
    ours = [sys.executable, "-m", "magicoder", "serve", model, "--port", str(port)]
    yield "magicoder", f"http://127.0.0.1:{port}/v1", ours, {}
    plan = launcher.plan(model, port=_free_port())
    plain = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", *plan.arguments]
    yield "vllm", plan.base_url, plain, {"VLLM_PLUGINS": "", "VLLM_NO_USAGE_STATS": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(model: str = DEFAULT) -> None:
    record: dict[str, Any] = {"model": model}
    with tempfile.TemporaryDirectory() as folder:
        for name, base_url, command, environment in servers(model):
            start = time.perf_counter()
            with started(command, environment, Path(folder) / f"{name}.log") as process:
                first_answer(base_url, model, process)
                row = {"first_answer_s": time.perf_counter() - start}
                asyncio.run(load(base_url, model, 2))  # what is compiled or cached at first use
                for streams in (1, 16):
                    runs = [asyncio.run(load(base_url, model, streams)) for _ in range(3)]
                    for key in runs[0]:
                        row[f"{key}_{streams}"] = statistics.median(run[key] for run in runs)
            record[name] = row
            print(name, row)
    print(measure.write("server", record, measure.results()))


if __name__ == "__main__":
    main(*sys.argv[1:])
