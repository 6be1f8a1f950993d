"""Secrets go, and code that only looks like them stays."""

import ast
from collections import Counter

import pytest

from magicoder import redact

PEM = "-----BEGIN RSA PRIVATE KEY-----"
LETTERS = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"

SECRETS = {
    "aws": ('key = "{}"', "AKIA" + "IOSFODNN7EXAMPLE", "KEY"),
    "github": ('token = "{}"', "ghp_" + LETTERS, "KEY"),
    "gitlab": ('token = "{}"', "glpat-" + LETTERS[:20], "KEY"),
    "openai": ('key = "{}"', "sk-" + LETTERS[:20] + "T3BlbkFJ" + LETTERS[:20], "KEY"),
    "hugging face": ('key = "{}"', "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH", "KEY"),
    "slack": ("'{}'", "https://hooks.slack.com/services/T0123456/B01234/" + LETTERS[:24], "KEY"),
    "password in a url": ('u = "ftp://me:{}@files.org"', "pass", "KEY"),
    "pem": (f"'''{PEM}{{}}{PEM.replace('BEGIN', 'END')}'''", "\nMIIE\nab=\n", "KEY"),
    "a line of a pem": ("'''\n{}\n'''", "MIIEpAIBAAKCAQEA7bq98Kj1" + "aB3/" * 10, "KEY"),
    "author": ("# {} wrote this", "jane.doe+x@mail.uni-koeln.de", "EMAIL"),
    "private address": ('connect("{}", 80)', "192.168.17.4", "HOST"),
    "private host": ('get("https://{}:8443/x")', "git.eng.corp", "HOST"),
    "private name": ("ping('{}')", "db1.internal", "HOST"),
}  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_alone_is_replaced_and_the_code_still_parses(name):
    before, secret, placeholder = SECRETS[name]
    code, counts = redact.clean(before.format(secret))
    assert code == before.format(f"<{placeholder}>")
    assert counts == {placeholder: 1}
    ast.parse(code)


@pytest.mark.parametrize(
    "code",
    [
        "q@k.transpose(1, 2)",
        "y = a@b.T",
        "this@MainActivity.finish()",
        "@app.route('/')",
        "data = threading.local()\nself.internal.call()",
        "git clone git@github.com:user/repo",
        'sha = "da39a3ee5e6b4b0d3255bfef95601890afd80709"',
        'ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"',
        'password = "hunter2"',
        'version = "1.10.0.3"',
        "mail('user@example.com')",
        'url = f"postgresql://{user}:{password}@{host}/{name}"',
        "Use `Layer.local` or `Wrapper.internal`.",
        "NotificationCenterManager.shared.installAsNotificationCenterDelegate()",
    ],
)
def test_what_is_no_secret_stays(code):
    assert redact.clean(code) == (code, Counter())


def test_only_the_secret_is_replaced_not_its_letters_elsewhere():
    code = "def f():\n    pass  # http://me:pass@files.org/pass\n    pass\n"
    assert redact.clean(code)[0] == code.replace(":pass@", ":<KEY>@")
