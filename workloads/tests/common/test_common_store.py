import gzip
from pathlib import Path

import pytest
from s3_server import bucket

from lmforge_workloads.common.exits import DataError, UserError
from lmforge_workloads.common.store import local_directory, locate, refuse_internal


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.txt", "b/c.txt", "b/d.md", ".git/config", "b/.hidden.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["a.txt", "b/c.txt", "b/d.md"]),
        ("/", ["a.txt", "b/c.txt", "b/d.md"]),
        ("/a.txt", ["a.txt"]),
        ("/*.txt", ["a.txt"]),
        ("/**/*.txt", ["a.txt", "b/c.txt"]),
        ("/b/[cd].*", ["b/c.txt", "b/d.md"]),
    ],
)
@pytest.mark.parametrize("scheme", ["file://", ""])
def test_a_file_a_directory_or_a_glob_names_files(tree: Path, scheme: str, pattern: str, expected: list[str]) -> None:
    found = locate(f"{scheme}{tree}{pattern}").files()
    assert [str(Path(file.path).relative_to(tree)) for file in found] == expected
    assert [file.read().decode() for file in found] == expected


@pytest.mark.parametrize("name", ["nothing.txt", "*.parquet"])
def test_what_is_not_there_is_named(tree: Path, name: str) -> None:
    with pytest.raises(DataError, match=str(tree)):
        locate(f"file://{tree}/{name}").files()


@pytest.mark.parametrize(
    "uri",
    ["file:///mnt/pvc/../../etc/passwd", "/mnt/../etc", "s3://bucket/a/../b", "file:///a/%2e%2e/b", "/a\0b"],
)
def test_a_path_that_climbs_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match=r"\.\."):
        locate(uri)


def test_a_name_with_dots_in_it_is_no_climbing(tmp_path: Path) -> None:
    (tmp_path / "v1..2.txt").write_text("x")
    assert locate(f"file://{tmp_path}/v1..2.txt").read() == b"x"


def test_an_unknown_scheme_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UserError, match="s3"):
        locate("ftp://host/file")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("169.254.169.254", "169.254.169.254"),
        ("innocent.example", "169.254.169.254"),
        ("innocent.example", "::ffff:127.0.0.1"),
        ("innocent.example", "fe80::1%eth0"),
        ("innocent.example", "fd00:ec2::254"),
        ("LOCALHOST.", "8.8.8.8"),
        ("kubernetes.default.svc.cluster.local", "10.0.0.1"),
        ("metadata.google.internal", "8.8.8.8"),
    ],
)
def test_the_clusters_own_machinery_can_not_be_reached(host: str, address: str) -> None:
    with pytest.raises(UserError, match="machinery"):
        refuse_internal(host, resolve=lambda _: [address])


@pytest.mark.parametrize("address", ["10.2.3.4", "93.184.216.34", "2606:2800::1"])
def test_other_hosts_can(address: str) -> None:
    refuse_internal("data.example", resolve=lambda _: [address])


def test_a_packed_file_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"text"))
    with locate(str(tmp_path / "a.txt.gz")).open(compression="infer") as file:
        assert file.read() == b"text"


def test_a_local_directory_is_used_where_it_is(tree: Path, tmp_path: Path) -> None:
    assert local_directory(f"file://{tree}", scratch=tmp_path / "scratch") == tree
    assert not (tmp_path / "scratch").exists()


CORPUS = {"corpus/a.txt": b"first", "corpus/b/c.txt": b"second", "corpus/b/d.csv": b"text\n"}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/corpus", [b"first", b"second", b"text\n"]),
        ("s3://bucket/corpus/a.txt", [b"first"]),
        ("s3://bucket/corpus/**/*.txt", [b"first", b"second"]),
    ],
)
def test_buckets_are_read_like_directories(
    uri: str, expected: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with bucket(CORPUS, monkeypatch):
        assert [file.read() for file in locate(uri).files()] == expected
        assert locate("s3://bucket/corpus/a.txt").size() == 5
        assert not locate("s3://bucket/corpus/nothing").exists()
        copy = local_directory("s3://bucket/corpus", scratch=tmp_path / "copy")
        assert (copy / "b/c.txt").read_bytes() == b"second"
