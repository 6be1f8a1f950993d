"""Every grammar loads, reads its own hello world, and sees what is broken."""

import pytest

from magicoder import languages

HELLO = {
    "python": "def hello(name: str) -> None:\n    print(f'hello {name}')\n",
    "java": 'class Hello { public static void main(String[] a) { System.out.println("hi"); } }',
    "javascript": "export const hello = (name) => <b>{name}</b>;\n",
    "typescript": "export function hello(name: string): void { console.log(name); }\n",
    "tsx": "export const Hello = (p: { name: string }) => <b>{p.name}</b>;\n",
    "cpp": "#include <iostream>\ntemplate <class T> void hello(T name) { std::cout << name; }\n",
    "c": '#include <stdio.h>\nint main(void) { printf("hi"); return 0; }\n',
    "csharp": 'class Hello { static void Main() => System.Console.WriteLine("hi"); }',
    "rust": 'fn main() { println!("hi {}", 1); }\n',
    "php": '<?php\nfunction hello(string $name): void { echo "hi $name"; }\n',
    "swift": 'func hello(name: String) { print("hi \\(name)") }\n',
    "shell": 'hello() { echo "hi $1"; }\nhello world\n',
    "go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hi") }\n',
    "kotlin": 'fun hello(name: String) { println("hi $name") }\n',
    "ruby": 'def hello(name)\n  puts "hi #{name}"\nend\n',
}


@pytest.mark.parametrize("language", languages.LANGUAGES, ids=lambda language: language.name)
def test_the_grammar_reads_hello_world_and_sees_a_broken_one(language: languages.Language):
    hello = HELLO[language.name]
    assert languages.syntax_errors(hello, language) == 0
    assert languages.syntax_errors(hello + "\n((({", language) > 0


def test_more_damage_is_more_errors():
    python = languages.by_name("python")
    assert python is not None
    one, two = "def f(:\n    pass\n", "def f(:\n    pass\n\nclass )x:\n    pass\n"
    assert languages.syntax_errors(one, python) < languages.syntax_errors(two, python)


@pytest.mark.parametrize("code", ["", "\n", "# only a comment", "s = 'naïve 😀'"])
def test_code_without_faults_has_none(code: str):
    assert languages.syntax_errors(code, languages.LANGUAGES[0]) == 0


def test_half_a_surrogate_pair_is_not_fatal():
    assert languages.syntax_errors("s = '\ud83d'", languages.LANGUAGES[0]) == 0


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.py", "python"),
        ("A.PY", "python"),
        ("x.tsx", "tsx"),
        ("x.mts", "typescript"),
        ("x.jsx", "javascript"),
        ("x.h", "c"),
        ("x.hpp", "cpp"),
        ("Gemfile", "ruby"),
        ("x.kts", "kotlin"),
        ("home/.bashrc", "shell"),
        ("x.unknown", None),
        ("py", None),
        ("", None),
    ],
)
def test_a_file_is_told_by_its_name(path: str, name: str | None):
    found = languages.by_path(path)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("python", "python"),
        (" Python3 ", "python"),
        ("C++", "cpp"),
        ("c#", "csharp"),
        ("shellscript", "shell"),
        ("bash", "shell"),
        ("typescriptreact", "tsx"),
        ("javascriptreact", "javascript"),
        ("golang", "go"),
        ("kt", "kotlin"),
        ("cobol", None),
        ("", None),
    ],
)
def test_a_language_is_told_by_a_fence_or_an_editor(word: str, name: str | None):
    found = languages.by_name(word)
    assert (found.name if found else None) == name


def test_no_two_languages_claim_the_same_name_or_extension():
    for claims in (
        [language.name for language in languages.LANGUAGES],
        [ext for language in languages.LANGUAGES for ext in language.extensions],
        [name for language in languages.LANGUAGES for name in language.filenames],
    ):
        assert len(claims) == len(set(claims))
