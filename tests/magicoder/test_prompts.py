"""The prompts are constants of the method: one changed character makes results incomparable."""

import hashlib

import pytest

from magicoder import prompts

# SHA-256 of each text as the paper's authors published it.
PUBLISHED = {
    "oss_instruct_system": "84f694486045db65173bf42bf70084dc64af8fa81298c7fc3a199479af873e11",
    "oss_instruct_user": "37119e47070be2fdb7269955ede52eba207e3594b36f9a62133086b6f18fb083",
    "magicoder_prompt": "3e21773fc1d41c4bb37942ae7104ad2fe42fee2f7013bf8778ea9ebdbedd8ddf",
    "training_instruction": "bab389097901a22d9d2004509e47a40a05e1c02e93284d3071c44565c1b735a4",
    "humaneval_instruction": "ee9ce0578ea0d038fe9f6f8f5be74b88093d61a708d5eb4550d14cd03ffddd37",
    "humaneval_response_prefix": "ed9d8a6022633fe38a6ea5342da0971fd7738cf01b1755edc32e7d84547ac26e",
    "mbpp_instruction": "77a111784bb73bec75df9e4a955c48cb6aed00b3636f59e95b7a3dffb7e0488d",
    "mbpp_response_prefix": "b839d1b2b703576919548db08bd100e7c9be17820b76bd5bbe386a36507ec127",
}
PLACEHOLDERS = {
    "oss_instruct_user": ["code"],
    "magicoder_prompt": ["instruction"],
    "training_instruction": ["problem"],
    "humaneval_instruction": ["prompt"],
    "humaneval_response_prefix": ["prompt"],
    "mbpp_instruction": ["description", "assertions"],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_prompt_is_the_published_one_to_the_letter(name: str):
    same = {key: "{" + key + "}" for key in PLACEHOLDERS.get(name, [])}
    text = prompts.fill(name, **same)
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED[name]


def test_values_are_put_in_as_they_are():
    code = "x = {'{code}': '\\1 {0} %s'}  # \\g<0>"
    assert f"```\n{code}\n```" in prompts.fill("oss_instruct_user", code=code)


def test_two_values_do_not_fill_each_other():
    filled = prompts.fill("mbpp_instruction", description="{assertions}", assertions="A")
    assert filled.startswith("{assertions} Your code")
    assert filled.endswith("```python\nA\n```")


@pytest.mark.parametrize("values", [{}, {"cod": "x"}, {"code": "x", "more": "y"}])
def test_values_that_are_not_the_placeholders_are_refused(values: dict[str, str]):
    with pytest.raises(KeyError, match="oss_instruct_user takes"):
        prompts.fill("oss_instruct_user", **values)


def test_an_unknown_prompt_is_refused():
    with pytest.raises(KeyError):
        prompts.fill("no_such_prompt")
