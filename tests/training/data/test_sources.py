"""Sources out of real folders, repositories, wheels, tarballs and packages; no network."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from magicoder.errors import UsageError
from magicoder.training.data.records import Document, Rejected
from magicoder.training.data.sources import SOURCES, UnavailableError, Wanted, fetch, hub

ROOT = Path(__file__).parents[3]
CODE = "def area(width, height):\n    return width * height\n"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MAGICODER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wanted(languages=(), count=None, seed=1):
    return Wanted(languages, count, seed)


def read(source, **more):
    kind, _, name = source.partition(":")
    return list(SOURCES[kind](name, wanted(**more)))


MIT = """MIT License

Copyright (c) 2026 Someone

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "LICENSE").write_text(MIT)
    (root / "a.py").write_text(CODE)
    (root / "b.rs").write_text("// SPDX-License-Identifier: Apache-2.0 OR MIT\nfn main() {}\n")
    (root / "sub" / "COPYING").write_text("Ask Fred first.\n")
    (root / "sub" / "deep" / "c.go").write_text("package c\n")
    return root


def test_a_folder_with_the_nearest_license_and_headers_first(project):
    found = {item.path: item for item in read(f"dir:{project}")}
    assert {path: item.license for path, item in found.items()} == {
        "a.py": "MIT",
        "b.rs": "Apache-2.0 OR MIT",
        "sub/deep/c.go": "",
    }
    assert found["a.py"].model_dump() == {
        "origin": "dir:project",
        "version": "",
        "path": "a.py",
        "language": "python",
        "license": "MIT",
        "text": CODE,
    }


def test_two_license_files_are_a_choice(project):
    (project / "LICENSE").rename(project / "LICENSE-MIT")
    (project / "LICENSE-APACHE").write_text((ROOT / "LICENSE").read_text())
    (found,) = (item for item in read(f"dir:{project}") if item.path == "a.py")
    assert found.license == "Apache-2.0 OR MIT"


def test_the_seed_alone_decides_the_order(project):
    for number in range(20):
        (project / f"f{number}.py").write_text(CODE)
    first, again, other = (
        [item.path for item in read(f"dir:{project}", seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)


def test_links_hidden_folders_and_other_files_are_passed_over(project):
    (project / ".git").mkdir()
    (project / ".git" / "hook.py").write_text(CODE)
    (project / "notes.txt").write_text("text")
    (project / "link.py").symlink_to(project / "notes.txt")
    assert {item.path for item in read(f"dir:{project}")} == {"a.py", "b.rs", "sub/deep/c.go"}
    assert {item.path for item in read(f"dir:{project}", languages=["go"])} == {"sub/deep/c.go"}


def test_unreadable_documents_are_rejected_with_a_reason(tmp_path):
    root = tmp_path / "odd"
    root.mkdir()
    (root / "latin.py").write_bytes(b"caf\xe9")
    (root / "big.py").write_bytes(b"a" * 1_000_001)
    (root / "limit.py").write_bytes(b"a" * 1_000_000)
    reasons = {i.record.path: i.reason for i in read(f"dir:{root}") if isinstance(i, Rejected)}
    assert reasons == {"latin.py": "not UTF-8", "big.py": "larger than 1 MB"}


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no folder .*nowhere"):
        read(f"dir:{tmp_path / 'nowhere'}")


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    command = ("git", *who, *arguments)
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_repository_at_its_commit_and_none_of_its_hooks(project, tmp_path, monkeypatch):
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "one")
    template = tmp_path / "template" / "hooks"
    template.mkdir(parents=True)
    (template / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (template / "post-checkout").chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template.parent))
    found = read(f"git:{project}")
    assert {item.path for item in found} == {"a.py", "b.rs", "sub/deep/c.go"}
    assert {item.version for item in found} == {git(project, "rev-parse", "HEAD").strip()}
    assert {item.origin for item in found} == {"git:project"}
    assert not (tmp_path / "ran").exists()


def wheel(folder, name="tool", version="1.2", metadata="License-Expression: MIT", **texts):
    """A wheel as PyPI has them."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as packed:
        info = f"{name}-{version}.dist-info"
        head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}\n"
        packed.writestr(f"{info}/METADATA", head)
        packed.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        packed.writestr(f"{info}/RECORD", "")
        packed.writestr(f"{info}/licenses/LICENSE", MIT)
        packed.writestr(f"{name}/area.py", CODE)
    return folder


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip finds packages in this folder alone."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


@pytest.mark.parametrize(
    ("metadata", "spdx"),
    [
        ("License-Expression: MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("License: Apache 2.0", "Apache-2.0"),
        ("License: BSD\nLicense-File: LICENSE", "MIT"),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License", ""),
        ("Summary: nothing", ""),
    ],
)
def test_a_wheel_with_the_license_of_its_metadata(index, metadata, spdx):
    wheel(index, metadata=metadata)
    (found,) = read("pypi:tool")
    assert (found.origin, found.version, found.path) == ("pypi:tool", "1.2", "tool/area.py")
    assert found.license == spdx
    assert found.text == CODE


def test_a_package_is_fetched_once(index):
    wheel(index)
    first = read("pypi:tool==1.2")
    for path in index.iterdir():
        path.unlink()
    assert read("pypi:tool==1.2") == first
    with pytest.raises(UnavailableError, match=r"pypi:tool==1\.3 cannot be fetched: .*tool==1\.3"):
        read("pypi:tool==1.3")


def test_an_sdist_s_build_is_never_run(index, tmp_path):
    index.mkdir()
    with tarfile.open(index / "evil-1.0.tar.gz", "w:gz") as packed:
        code = f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode()
        member = tarfile.TarInfo("evil-1.0/setup.py")
        member.size = len(code)
        packed.addfile(member, io.BytesIO(code))
    with pytest.raises(UnavailableError, match="pypi:evil cannot be fetched"):
        read("pypi:evil")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """An npm registry of one package, on the loopback, for the real npm."""
    root = tmp_path / "registry"
    root.mkdir()
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=root))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{http.server_port}"

    def publish(manifest):
        manifest = {"name": "tool", "version": "2.0.0", **manifest}
        (root / "tool.tgz").unlink(missing_ok=True)
        with tarfile.open(root / "tool.tgz", "w:gz") as packed:
            for name, text in (("package.json", json.dumps(manifest)), ("src/a.ts", "let a = 1\n")):
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(text.encode())
                packed.addfile(member, io.BytesIO(text.encode()))
        manifest = {**manifest, "dist": {"tarball": f"{url}/tool.tgz"}}
        listing = {"name": "tool", "dist-tags": {"latest": "2.0.0"}}
        (root / "tool").write_text(json.dumps({**listing, "versions": {"2.0.0": manifest}}))

    monkeypatch.setenv("NPM_CONFIG_REGISTRY", url)
    monkeypatch.setenv("NPM_CONFIG_CACHE", str(tmp_path / "npm"))
    yield publish
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize(
    ("manifest", "spdx"),
    [
        ({"license": "(MIT OR Apache-2.0)"}, "MIT OR Apache-2.0"),
        ({"license": {"type": "ISC"}}, "ISC"),
        ({"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]}, "MIT OR Apache-2.0"),
        ({"license": "SEE LICENSE IN LICENSE"}, ""),
        ({}, ""),
    ],
)
def test_an_npm_package_with_the_license_of_its_manifest(registry, needs, tmp_path, manifest, spdx):
    needs("npm")
    scripts = {"scripts": {"prepack": f"touch {tmp_path}/ran", "install": f"touch {tmp_path}/ran"}}
    registry({**manifest, **scripts})
    (found,) = read("npm:tool@2.0.0")
    assert found.model_dump(exclude={"text"}) == {
        "origin": "npm:tool",
        "version": "2.0.0",
        "path": "src/a.ts",
        "language": "typescript",
        "license": spdx,
    }
    assert not (tmp_path / "ran").exists()


COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 A
License: Expat

Files: src/hash/*
Copyright: 2020 B
License: GPL-2+

Files: debian/*
Copyright: 2020 C
License: GPL-3

License: Expat
 Text.
"""


def test_a_debian_package_with_a_license_per_file(tmp_path, monkeypatch, needs):
    needs("apt-get", "dpkg-deb")
    tree = tmp_path / "tree"
    for name, text in {
        "DEBIAN/control": "Package: libtool-dev\nVersion: 1.0-3\nArchitecture: all\n"
        "Maintainer: A <a@example.com>\nDescription: d\n",
        "usr/share/doc/libtool-dev/copyright": COPYRIGHT,
        "usr/share/tool/area.py": CODE,
        "usr/share/tool/src/hash/mix.py": CODE,
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "usr/share/tool/link.py").symlink_to("/etc/passwd")
    (tree / "DEBIAN").chmod(0o755)
    archive = tmp_path / "archive"
    archive.mkdir()
    built = archive / "libtool-dev_1.0-3_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, built], check=True)
    fields = subprocess.run(["dpkg-deb", "-f", built], check=True, capture_output=True, text=True)
    (archive / "Packages").write_text(
        f"{fields.stdout}Filename: ./{built.name}\nSize: {built.stat().st_size}\n"
        f"SHA256: {hashlib.sha256(built.read_bytes()).hexdigest()}\n"
    )
    state = tmp_path / "apt"
    for name in ("lists/partial", "cache/archives/partial", "etc"):
        (state / name).mkdir(parents=True)
    (state / "etc/sources.list").write_text(f"deb [trusted=yes] file:{archive} ./\n")
    (state / "apt.conf").write_text(
        f'Dir::State "{state}"; Dir::State::lists "{state}/lists"; Dir::Cache "{state}/cache";\n'
        f'Dir::Etc::sourcelist "{state}/etc/sources.list"; Dir::Etc::sourceparts "-";\n'
        f'Dir::State::status "/dev/null"; APT::Sandbox::User "root";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(state / "apt.conf"))
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
    found = {item.path: item for item in read("debian:libtool-dev")}
    assert {path: item.license for path, item in found.items()} == {
        "usr/share/tool/area.py": "MIT",
        "usr/share/tool/src/hash/mix.py": "GPL-2.0-or-later",
    }
    assert {(item.origin, item.version) for item in found.values()} == {
        ("debian:libtool-dev", "1.0-3")
    }
    with pytest.raises(UnavailableError, match=r"debian:absent cannot be fetched: .*absent"):
        read("debian:absent")


@pytest.mark.parametrize("source", ["pypi:-r x", "pypi:a==", "npm:../x", "npm:-g", "debian:-o=x"])
def test_a_name_is_never_read_as_an_option(source):
    with pytest.raises(UsageError, match="write"):
        read(source)


def tar(*members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    packed.seek(0)
    return packed


def test_unpacking_stays_inside_and_within_bounds(tmp_path, monkeypatch):
    out = tmp_path / "out"
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    fetch.untar(tar((link, b""), (tarfile.TarInfo("a.py"), b"x")), out)
    assert [path.name for path in out.iterdir()] == ["a.py"]
    with pytest.raises(tarfile.TarError):
        fetch.untar(tar((tarfile.TarInfo("../escaped"), b"x")), out)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("../escaped", "x")
    fetch.unzip(tmp_path / "a.zip", out)
    assert not (tmp_path / "escaped").exists()
    monkeypatch.setattr(fetch, "MAX_UNPACKED", 10)
    with pytest.raises(UnavailableError, match="more than 10 bytes"):
        fetch.untar(tar((tarfile.TarInfo("a"), b"123456"), (tarfile.TarInfo("b"), b"123456")), out)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bomb", b"0" * 1000)
    with pytest.raises(UnavailableError, match="more than 10 bytes"):
        fetch.unzip(tmp_path / "b.zip", out)


def test_a_fetch_that_dies_leaves_nothing_that_looks_whole(cache):
    def dies(folder):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    def succeeds(folder):
        assert not list(folder.iterdir())
        (folder / "whole").write_text("x")
        return fetch.Package(version="1")

    with pytest.raises(KeyboardInterrupt):
        fetch.cached("pypi", "a", dies)
    folder, package = fetch.cached("pypi", "a", succeeds)
    assert {path.name for path in folder.iterdir()} == {"whole", "package.json"}
    assert package.version == "1"
    assert fetch.cached("pypi", "a", dies) == (folder, package)


def test_jsonl_documents_in_their_order(tmp_path):
    rows = [
        Document(origin="o", path=f"{n}.py", language="python", license="MIT", text=f"a = {n}")
        for n in range(5)
    ]
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    assert read(f"jsonl:{path}") == rows
    assert read(f"jsonl:{path}", languages=["rust"]) == []


def stack(count):
    """Rows as of The Stack: `count` of Python, and one of Rust under two licenses."""
    head = {"max_stars_repo_name": "me/project", "max_stars_repo_head_hexsha": "abc"}
    rows = [
        {"content": f"a = {n}\n", "max_stars_repo_path": f"src/{n}.py", "lang": "Python", **head}
        | {"max_stars_repo_licenses": ["MIT"]}
        for n in range(count)
    ]
    rust = {"content": "fn main() {}\n", "max_stars_repo_path": "main.rs", "lang": "Rust", **head}
    return [*rows, rust | {"max_stars_repo_licenses": ["MIT", "GPL-3.0-only"]}]


def test_a_dataset_s_columns_are_mapped_and_shuffled(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    rows = stack(30)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read(f"hf:{folder}")
    assert len(found) == len(rows)
    by_path = {item.path: item for item in found}
    assert by_path["me/project/src/7.py"] == Document(
        origin="hf:stack",
        version="abc",
        path="me/project/src/7.py",
        language="python",
        license="MIT",
        text="a = 7\n",
    )
    assert by_path["me/project/main.rs"].license == "MIT AND GPL-3.0-only"
    assert read(f"hf:{folder}") == found
    paths = [item.path for item in read(f"hf:{folder}", seed=2)]
    assert paths != [item.path for item in found]
    assert sorted(paths) == sorted(by_path)


@pytest.mark.slow  # datasets itself waits 5 seconds when it has read a Parquet file
def test_a_dataset_of_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(stack(3))
    (tmp_path / "stack").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "stack" / "train.parquet")
    assert sorted(item.text for item in read(f"hf:{tmp_path / 'stack'}")) == sorted(
        row["content"] for row in stack(3)
    )


def test_a_dataset_without_code_is_named_with_its_columns(tmp_path):
    folder = tmp_path / "talk"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"question": "a", "path": "a.py"}\n')
    with pytest.raises(UsageError, match=r"has the columns question, path: .*content"):
        read(f"hf:{folder}")


def test_the_stack_s_folders_are_languages():
    assert hub.FOLDERS["bigcode/the-stack"][1]["cpp"] == "c++"
    with pytest.raises(UsageError, match="write hf:bigcode/starcoderdata:python"):
        read("hf:bigcode/starcoderdata")


def test_a_dataset_that_cannot_be_reached_is_unavailable():
    code = (
        "from magicoder.training.data.sources import SOURCES, Wanted, UnavailableError\n"
        "try: list(SOURCES['hf']('no/such', Wanted((), None, 1)))\n"
        "except UnavailableError as error: print(error)"
    )
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=offline)
    assert "hf:no/such cannot be read" in done.stdout
