"""Code blocks in Markdown."""

from magicoder.blocks import code_blocks


def test_names_aliases_and_bare_fences() -> None:
    text = "Hi\n```py title=x\na = 1\n```\n```\nb\n```\n```c++\nint c;\n```\n```text\nno\n```\n"
    found = [(language.name, code) for language, code in code_blocks(text, "rust")]
    assert found == [("python", "a = 1\n"), ("rust", "b\n"), ("cpp", "int c;\n")]
    assert [language.name for language, _ in code_blocks(text, "")] == ["python", "cpp"]


def test_an_open_fence_is_no_block() -> None:
    assert code_blocks("```python\na = 1\n", "python") == []
