"""What stays on the machine; ignore files are held against git itself."""

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from magicoder.lsp.context import exclusion
from magicoder.lsp.context.exclusion import Exclusions


def test_ignore_files_say_what_git_says(tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("git")
    rng = random.Random(0)
    names = ["a", "b", "build", "c.py", "d.log", "e f"]
    lines = [
        "a", "a/", "/a", "*.log", "!*.log", "/*", "!/a", "!/b/", "*/", "!*/", "*", "!*.py", "a/b",
        "a/**", "**/b", "a/**/c.py", "!a/c.py", "build/", "!build/", "build/*", "!build/c.py",
        "[ab]", "[z-a]", "\\", "# no", "\\!a", "?.py", "e f", "a ", "b/*/d.log", "!", "/", "**",
    ]  # fmt: skip
    folders = ["", "a", "b", "a/b", "build", "a/build", "b/a"]
    files = [f"{folder}/{name}".strip("/") for folder in folders for name in names]
    files += [f"{folder}/a/b/{name}".strip("/") for folder in folders for name in names]
    verdicts = 0
    for round_ in range(40):
        repository = tmp_path / str(round_)
        subprocess.run(["git", "init", "-q", str(repository)], check=True)
        for folder in rng.sample(folders, 3):
            (repository / folder).mkdir(parents=True, exist_ok=True)
            chosen = rng.choices(lines, k=rng.randint(1, 5))
            (repository / folder / ".gitignore").write_text("\n".join(chosen) + "\n")
        paths = [file for file in files if not (repository / file).is_dir()]
        for file in rng.sample(paths, 30):
            if all(not each.is_file() for each in (repository / file).parents):
                (repository / file).parent.mkdir(parents=True, exist_ok=True)
                if not (repository / file).exists():
                    (repository / file).write_text("x")
        real = [
            str(path.relative_to(repository))
            for path in repository.rglob("*")
            if path.is_file() and ".git" not in path.parts and path.name != ".gitignore"
        ]
        said = subprocess.run(
            ["git", "-C", str(repository), "check-ignore", "-z", "--stdin"],
            input="\0".join(real),
            capture_output=True,
            text=True,
        ).stdout
        ignored = {each for each in said.split("\0") if each}
        exclusions = Exclusions([repository], [])
        ours = {each for each in real if exclusions.reason(repository / each)}
        ignores = {
            str(p.relative_to(repository)): p.read_text() for p in repository.rglob(".gitignore")
        }
        assert ours == ignored, ignores
        verdicts += len(ignored)
    assert verdicts > 200


def test_ignore_files_are_read_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusion, "TRUSTED_FOR", 0.0)
    exclusions = Exclusions([tmp_path], [])
    file, ignore = tmp_path / "a.py", tmp_path / ".gitignore"
    assert exclusions.reason(file) is None
    ignore.write_text("a.py\n")
    assert exclusions.reason(file) == "a .gitignore names it"
    ignore.write_text("b.py\n")
    os.utime(ignore, ns=(1, 1))
    assert exclusions.reason(file) is None
    ignore.unlink()
    assert exclusions.reason(file) is None


def test_each_root_and_each_repository_has_its_own_ignore_files(tmp_path: Path) -> None:
    one, other, outside = tmp_path / "one", tmp_path / "other", tmp_path / "outside"
    for folder in (one, other / "sub", outside):
        folder.mkdir(parents=True)
        (folder / ".gitignore").write_text("a.py\n")
    (tmp_path / ".gitignore").write_text("*\n")  # above the roots, and no repository's
    exclusions = Exclusions([one, other], [])
    assert exclusions.reason(one / "a.py")
    assert not exclusions.reason(other / "a.py")
    assert exclusions.reason(other / "sub" / "a.py")
    assert not exclusions.reason(outside / "a.py")  # in no root and no repository
    (outside / ".git").mkdir()
    assert Exclusions([one], []).reason(outside / "a.py")
    (tmp_path / ".git").mkdir()  # a root inside a repository
    assert Exclusions([one], []).reason(one / "b.py")


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", "prod.env", "server.PEM", "id_rsa", "id_ed25519.bak", "a.key"),
        *("credentials", "credentials.json", "secrets.yaml", ".netrc", ".npmrc", ".pypirc"),
        *("c.p12", "x.kdbx", ".ssh/config", ".aws/config", "terraform.tfstate"),
        *(".env~", ".env_local", ".env-prod", "secret.yaml", "client_secret_1.json", ".SSH/x"),
        *(".docker/config.json", "application_default_credentials.json", ".s3cfg", ".env/foo"),
        *("wp-config.php", "wp-config-prod.php", "LocalSettings.php", "passwords.txt", ".pgpass"),
        *("my-passwords.csv", "aws_credentials.json", "credentials-prod.json", "etc/shadow"),
        *(".vscode/sftp.json", "filezilla.xml", "config/secret_token.rb", ".vault_pass.txt"),
        *(".bash_history", "id_rsa.bak", "server.pem.old", "x.tfvars.json", "gh/hosts.yml"),
        *("#.env#", "private_key_2.txt", "apikeys.txt", "api_keys.yaml", "key.json", "token.txt"),
        *("htpasswd", "shop-firebase-adminsdk-1a2b.json"),
    ],
)
def test_files_that_look_secret_stay(tmp_path: Path, name: str) -> None:
    assert Exclusions([tmp_path], []).reason(tmp_path / name) == "it may hold secrets"


@pytest.mark.parametrize(
    "name",
    [
        ".env.example",
        ".env.sample",
        ".env.template",
        "a/config.json",
        "environment.py",
        "keys.py",
        "monkey.py",
        "id_card.py",
        "netrc.py",
        "wp-config-sample.php",
        "passwords.py",
        "password_reset_subject.txt",
        "passwd/main.go",
        "#keys.py#",
        "package.key.json",
        "tokens.txt",
        "google-services.json",
        "appsettings.Development.json",
        "application-prod.properties",
    ],
)
def test_files_that_only_sound_secret_may_go(tmp_path: Path, name: str) -> None:
    assert Exclusions([tmp_path], []).reason(tmp_path / name) is None


def test_a_link_does_not_hide_a_secret(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY=1")
    (tmp_path / "notes.txt").symlink_to(tmp_path / ".env")
    (tmp_path / "plain.txt").write_text("x")
    (tmp_path / "kept.key").symlink_to(tmp_path / "plain.txt")
    exclusions = Exclusions([tmp_path], [])
    assert exclusions.reason(tmp_path / "notes.txt")
    assert exclusions.reason(tmp_path / "kept.key")
    assert exclusions.reason(tmp_path / "plain.txt") is None


def test_a_root_behind_a_link_is_the_same_root(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / ".gitignore").write_text("a.py\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Exclusions([tmp_path / "link"], []).reason(tmp_path / "link" / "a.py")


def test_the_users_patterns_count_from_each_root(tmp_path: Path) -> None:
    exclusions = Exclusions([tmp_path / "one", tmp_path / "two"], ["/private/", "*.sql", "!ok.sql"])
    assert exclusions.reason(tmp_path / "two" / "private" / "a.py") == "the settings exclude it"
    assert not exclusions.reason(tmp_path / "two" / "sub" / "private" / "a.py")
    assert exclusions.reason(tmp_path / "one" / "sub" / "a.sql")
    assert not exclusions.reason(tmp_path / "one" / "sub" / "ok.sql")
    assert exclusions.reason(Path("/elsewhere/a.sql"))
    assert not exclusions.enters(tmp_path / "one" / "private")
    assert exclusions.enters(tmp_path / "one" / "public")


def test_text_says_it_too(tmp_path: Path) -> None:
    reason = Exclusions([], []).reason
    key = "x = '''\n-----BEGIN RSA PRIVATE KEY-----\nMII\n'''"
    for path in (Path("Untitled-1"), tmp_path / "a.py"):
        assert reason(path, "a = 1\n" * 100) is None
        assert reason(path, key) == "it holds a private key"
        assert reason(path, "a = 1\n" * 200_000) == "it is too large"
        assert "generated" in (reason(path, "a" * 10_000 + "\n") or "")
        assert reason(path, "a\0b") == "it is not text"
    (tmp_path / "big.py").write_text("#" * 2_000_000)
    assert reason(tmp_path / "big.py") == "it is too large"


def test_one_very_long_line_is_generated() -> None:
    reason = Exclusions([], []).reason
    code = "a = 1\n" * 5000
    assert "generated" in (reason(Path("Untitled-1"), code + "b" * 20_001 + "\n" + code) or "")
    assert "generated" in (reason(Path("Untitled-1"), code + "b" * 20_001) or "")
    assert reason(Path("Untitled-1"), code + "b" * 20_000 + "\n" + code) is None
    assert reason(Path(".env"), code) == "it may hold secrets", "an editor's unwritten document"


def test_what_a_text_said_holds_for_its_path(tmp_path: Path) -> None:
    exclusions, file = Exclusions([tmp_path], []), tmp_path / "a.py"
    (tmp_path / "link.py").symlink_to(file)
    assert exclusions.reason(file, "-----BEGIN PRIVATE KEY-----") == "it holds a private key"
    assert exclusions.reason(file) == "it holds a private key"
    assert exclusions.reason(tmp_path / "link.py") == "it holds a private key"
    assert exclusions.reason(file, "a = 1") is None
    assert exclusions.reason(file) is None


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.py").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "b.py")
    exclusions = Exclusions([tmp_path], [])
    assert exclusions.reason(tmp_path / "a.py") == "it is no regular file"
    assert exclusions.reason(tmp_path / "b.py") == "it is no regular file"


def test_an_ignore_file_that_is_a_link_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("*.py\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / ".gitignore").symlink_to("/dev/zero")
    (tmp_path / "sub" / ".gitignore").symlink_to(tmp_path / "rules")
    exclusions = Exclusions([tmp_path], [])
    assert exclusions.reason(tmp_path / "sub" / "a.py") is None


def test_an_ignore_file_that_is_too_large_excludes_everything(tmp_path: Path) -> None:
    for name, text in (("long", "#" * 200_001), ("many", "x\n" * 3000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".gitignore").write_text(text)
        assert Exclusions([tmp_path], []).reason(tmp_path / name / "a.py")
    assert Exclusions([tmp_path], []).reason(tmp_path / "a.py") is None


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 14 + "b", "*a?" * 14 + "b", "**/a/" * 14 + "b", "a/**/" * 14 + "b", "a**" * 9],
)
def test_many_stars_cost_little(tmp_path: Path, pattern: str) -> None:
    (tmp_path / ".gitignore").write_text(pattern + "\n")
    exclusions = Exclusions([tmp_path], [])
    for name in ("a" * 200 + ".py", "a/" * 60 + "c"):
        exclusions.reason(tmp_path / name)  # pytest's time limit ends what is exponential


def test_many_stars_match_as_one_by_one(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("x*a?*b*[0-9]*c/**/d*e*/**/f*g*h\n")
    reason = Exclusions([tmp_path], []).reason
    assert reason(tmp_path / "x_aab_b_7_8_c/q/dee/d_e_/1/2/fgghh")
    assert reason(tmp_path / "xa_b1c/de/fgh")
    assert not reason(tmp_path / "xab1c/de/fgh")
    assert not reason(tmp_path / "xa_b1c/de/fgx")
    assert not reason(tmp_path / "xa_b1c/d/e/fgh")


def test_every_file_that_git_reads_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[..., None]
) -> None:
    needs("git")
    home, top = tmp_path / "home", tmp_path / "top"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("everywhere.py\n")
    subprocess.run(["git", "init", "-q", str(top)], check=True)
    (top / ".gitignore").write_text("\ufeffbom.py\nprivate/\n!back.py\n", encoding="utf-8")
    (top / ".git" / "info").mkdir(exist_ok=True)
    (top / ".git" / "info" / "exclude").write_text("info.py\nback.py\n")
    subprocess.run(["git", "init", "-q", str(top / "private")], check=True)
    names = ["bom.py", "everywhere.py", "info.py", "private/a.py", "back.py", "a.py"]

    def ours() -> list[str]:
        return [each for each in names if Exclusions([top], []).reason(top / each)]

    assert ours() == names[:4]
    (home / "mine").write_text("a.py\n")
    (home / ".gitconfig").write_text("[core]\n excludesFile = ~/mine\n")
    assert ours() == ["bom.py", "info.py", "private/a.py", "a.py"]


def test_a_worktree_shares_what_its_repository_excludes(tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "worktrees" / "one"
    kept.mkdir(parents=True)
    (kept / "commondir").write_text("../..\n")
    (tmp_path / "kept" / "info").mkdir()
    (tmp_path / "kept" / "info" / "exclude").write_text("a.py\n")
    top = tmp_path / "top"
    top.mkdir()
    (top / ".git").write_text(f"gitdir: {kept}\n")
    assert Exclusions([top], []).reason(top / "a.py")
    assert not Exclusions([top], []).reason(top / "b.py")


def test_nested_roots_all_count(tmp_path: Path) -> None:
    for roots in ([tmp_path, tmp_path / "sub"], [tmp_path / "sub", tmp_path]):
        assert Exclusions(roots, ["/gen/"]).reason(tmp_path / "sub" / "gen" / "a.py")
