"""Takes secrets out of code: keys and tokens, private hosts, e-mail addresses.

The detectors of `detect-secrets` that know a token by its form, in process and without asking its
issuer, and three of our own. Left out are its detectors that guess: entropy takes hashes for
secrets, keywords take every `password = ...`, and public addresses are mostly version numbers.
"""

import re
from collections import Counter
from functools import cache
from typing import Any

from magicoder.errors import require

_BY_FORM = {
    "artifactory": "ArtifactoryDetector",
    "aws": "AWSKeyDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "basic_auth": "BasicAuthDetector",
    "cloudant": "CloudantDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "ibm_cloud_iam": "IbmCloudIamDetector",
    "ibm_cos_hmac": "IbmCosHmacDetector",
    "jwt": "JwtTokenDetector",
    "mailchimp": "MailchimpDetector",
    "npm": "NpmDetector",
    "openai": "OpenAIDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "softlayer": "SoftlayerDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}
"""The modules of detect-secrets whose detector knows a token by its form."""

# A private key whole, or the part of it that some lines happen to hold
_PEM = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(.*?)(?=-----END|\Z)"
_PEM_LINE = r"^\W*((?=[^\s]*[a-z])(?=[^\s]*[A-Z])(?=[^\s]*\d)[A-Za-z0-9+/]{64})\W*$"
_KNOWN = (  # forms that detect-secrets lacks: Hugging Face, Google, Anthropic, xAI
    r"\b(hf_[A-Za-z]{30,}|AIza[\w-]{35}|ya29\.[\w-]{20,}|sk-ant-[\w-]{20,}|xai-\w{40,})"
)

_PRIVATE_IP = (
    r"(?<![\w.])((?:10(?:\.\d{1,3}){3}|192\.168(?:\.\d{1,3}){2}"
    r"|172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2}))(?![\w.])"
)
# Behind :// or @, or alone in quotes: elsewhere `.local` and `.internal` are attributes
_PRIVATE_HOST = (
    r"(?:(?<=://)|(?<=@)|(?<=[\"']))"
    r"((?:[a-z0-9-]+\.)+(?:internal|local|corp|intranet|lan))(?=[:/\"'`\s]|$)"
)

# Not matrix products, not Kotlin's this@Outer.call(); the reserved example domains are no one's
_EMAIL = (
    r"(?<![\w.%+@/:-])((?!(?:this|super|return|git)@)[\w.%+-]+@(?!(?:[\w-]+\.)*example\.)"
    r"(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|mil|info|name|dev|app|[a-z]{2}))(?![\w(\[.]*[\w(\[])"
)

_PREFIXED = {"GitHubTokenDetector", "GitLabTokenDetector"}  # their group is a token's prefix
_NO_SECRET = re.compile(r"[A-Za-z.]{40,}|[{$%<].*")  # some.dotted.name, or {variable}


@cache
def _detectors() -> list[tuple[str, Any]]:
    """Each with the placeholder for what it finds."""
    base = require("detect_secrets.plugins.base", "data").RegexBasedDetector

    def own(name: str, *patterns: str, flags: int = re.IGNORECASE) -> Any:
        compiled = [re.compile(pattern, flags) for pattern in patterns]
        return type(name, (base,), {"secret_type": name, "denylist": compiled})()

    found: list[tuple[str, Any]] = [
        ("KEY", own("Private Key", _PEM, _PEM_LINE, flags=re.DOTALL | re.MULTILINE)),
        ("KEY", own("Token", _KNOWN, flags=0)),
    ]
    for module, detector in _BY_FORM.items():
        plugin = getattr(require(f"detect_secrets.plugins.{module}", "data"), detector)()
        found.append(("KEY", plugin))
    found.append(("EMAIL", own("E-mail address", _EMAIL)))
    found.append(("HOST", own("Private host", _PRIVATE_IP, _PRIVATE_HOST)))
    return found


def clean(code: str) -> tuple[str, Counter[str]]:
    """`code` with `<KEY>`, `<EMAIL>` and `<HOST>` in place of secrets, and how many of each."""
    counts: Counter[str] = Counter()
    for placeholder, detector in _detectors():
        secrets = set(detector.analyze_string(code))
        if not secrets:
            continue
        spans = {
            match.span(0 if type(detector).__name__ in _PREFIXED else min(1, pattern.groups))
            for pattern in detector.denylist
            for match in pattern.finditer(code)
            if (told := match[min(1, pattern.groups)] or "") in secrets
            and not _NO_SECRET.fullmatch(told)
        }
        end = len(code)
        for start, stop in sorted(spans, reverse=True):
            if start < stop <= end and code[start:stop].strip():  # within another it is gone
                code, end = f"{code[:start]}<{placeholder}>{code[stop:]}", start
                counts[placeholder] += 1
    return code, counts
