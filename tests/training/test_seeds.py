"""Seeds against the documents that they were taken from."""

import itertools
from pathlib import Path

import pytest

from magicoder.errors import UsageError
from magicoder.training.data import seeds
from magicoder.training.data.records import Document, Rejected


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    for number in range(60):
        name = root / "src" / f"f{number:02}.{('py', 'rs', 'cpp')[number % 3]}"
        name.write_text("".join(f"line {number}.{line}\n" for line in range(1 + number)))
    return root


def documents(folder, only=(), seed=1):
    return list(seeds.documents(iter(()), folders=[folder], only=only, seed=seed))


def extracted(records, seed=1, count=1000):
    return list(seeds.extract(iter(records), seed=seed, count=count))


def test_a_seed_is_up_to_15_consecutive_lines_of_its_own_document(folder):
    found = extracted(documents(folder))
    assert len({seed.path for seed in found}) == len(found) == 60
    lengths = set()
    for seed in found:
        lines = (folder / seed.path).read_text().split("\n")
        taken = seed.code.split("\n")
        lengths.add(len(taken))
        assert lines[seed.line - 1 : seed.line - 1 + len(taken)] == taken
        assert seed.origin == "dir:project"
        suffixes = {".py": "python", ".rs": "rust", ".cpp": "cpp"}
        assert seed.language == suffixes[Path(seed.path).suffix]
    assert min(lengths) == 1
    assert 10 < max(lengths) <= 15
    assert len({seed.line for seed in found}) > 5


def test_the_same_seed_gives_the_same_seeds_and_another_gives_others(folder):
    once, again = (extracted(documents(folder)) for _ in range(2))
    assert once == again
    other = extracted(documents(folder, seed=2), seed=2)
    assert [seed.path for seed in other] != [seed.path for seed in once]
    assert {seed.hash for seed in other} != {seed.hash for seed in once}


def test_a_document_s_seed_does_not_depend_on_its_neighbours(folder):
    before = {seed.path: seed for seed in extracted(documents(folder))}
    for number in range(0, 60, 2):
        next(folder.rglob(f"f{number:02}.*")).unlink()
    after = extracted(documents(folder))
    assert len(after) == 30
    assert all(before[seed.path] == seed for seed in after)


def test_counting_stops_the_reading(folder):
    read = iter(documents(folder))
    assert len(extracted(read, count=5)) == 5
    assert len(list(read)) == 55


def test_only_these_languages(folder):
    assert {document.language for document in documents(folder, only={"rust"})} == {"rust"}


def test_what_is_not_a_projects_own_source_is_passed_over(folder):
    for name in (".git/x.py", "node_modules/x.py", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("text")
    (folder / "link.py").symlink_to(folder / "notes.txt")
    assert len(documents(folder)) == 60


def test_unreadable_documents_are_rejected_with_a_reason(tmp_path):
    (tmp_path / "latin.py").write_bytes(b"caf\xe9")
    (tmp_path / "big.py").write_bytes(b"a" * (seeds.MAX_BYTES + 1))
    (tmp_path / "blank.py").write_text("\n\n\n")
    (tmp_path / "empty.py").write_text("")
    found = documents(tmp_path)
    reasons = {item.record.path: item.reason for item in found if isinstance(item, Rejected)}
    assert reasons == {"latin.py": "not UTF-8", "big.py": "larger than 1 MB"}
    readable = [item for item in found if isinstance(item, Document)]
    assert [item.reason for item in extracted(readable)] == ["blank lines"] * 2


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no folder .*nowhere"):
        list(itertools.islice(documents(tmp_path / "nowhere"), 1))
