"""`magicoder chat`: talk to the served model."""

import sys

import click

from magicoder.cli._client import echo_stream, sampling_options, server_options
from magicoder.errors import ServerError


@click.command()
@click.argument("prompt", required=False)
@click.option("--system", metavar="TEXT", help="What the model is told before the conversation.")
@sampling_options(max_tokens=512)
@server_options
def chat(
    prompt: str | None,
    system: str | None,
    max_tokens: int,
    temperature: float,
    base_url: str | None,
    model: str | None,
) -> None:
    """Talk to the served model; the answer streams.

    Without PROMPT it is a conversation: Ctrl-C ends an answer, Ctrl-D the conversation. A prompt
    can also come through a pipe.

    \b
    magicoder chat "Write a binary search in Rust"
    magicoder chat --system "Answer in one line." "What is a monad?"
    git diff | magicoder chat
    magicoder chat
    """
    from magicoder.client import Magicoder

    with Magicoder(base_url=base_url, model=model) as client:
        messages = [{"role": "system", "content": system}] if system else []

        def answer(text: str) -> None:
            asked = [*messages, {"role": "user", "content": text}]
            stream = client.chat(asked, stream=True, max_tokens=max_tokens, temperature=temperature)
            done = echo_stream(stream)
            messages[:] = [*asked, {"role": "assistant", "content": done.text}]

        if prompt is None and not sys.stdin.isatty():
            prompt = sys.stdin.read()
        if prompt is not None:
            if not prompt.strip():
                raise click.UsageError("the prompt is empty")
            answer(prompt)
            return

        import readline  # noqa: F401  line editing and history for input()

        click.echo(f"Talking to {client.model_info().id}. Ctrl-D ends the conversation.", err=True)
        while True:
            try:
                text = input("\n> ")
            except (EOFError, KeyboardInterrupt):
                click.echo()
                return
            if not text.strip():
                continue
            try:
                answer(text)
            except KeyboardInterrupt:
                click.echo("\n(stopped)", err=True)
            except ServerError as error:
                click.echo(f"error: {error}", err=True)
