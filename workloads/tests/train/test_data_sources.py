import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmforge_workloads.common.exits import DataError
from lmforge_workloads.train import sources
from lmforge_workloads.train.sources import Piece, TextFiles, read

DOCUMENTS = ["one", 'a "quoted", line\nand another', "日本語 🎉", "  spaces  \r\n"]


def as_jsonl(documents: list[str]) -> bytes:
    return "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(documents)).encode()


def as_csv(documents: list[str]) -> bytes:
    rows = ['"' + text.replace('"', '""') + '"' for text in documents]
    return "".join(f"{line}\n" for line in ["id,text", *(f"{n},{row}" for n, row in enumerate(rows))]).encode()


def as_parquet(documents: list[str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": range(len(documents)), "text": documents}), buffer)
    return buffer.getvalue()


WRITERS = {"jsonl": as_jsonl, "csv": as_csv, "parquet": as_parquet}
ROWS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50), min_size=1, max_size=20)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_row_is_a_document(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").write_bytes(WRITERS[kind](DOCUMENTS))
    assert list(read(TextFiles(str(tmp_path)))) == [Piece(text, ends_document=True) for text in DOCUMENTS]


@pytest.mark.parametrize("kind", WRITERS)
@given(documents=ROWS)
def test_any_text_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, kind: str, documents: list[str]
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"a.{kind}"
    path.write_bytes(WRITERS[kind](documents))
    assert [piece.text for piece in read(TextFiles(str(path)))] == documents


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), max_size=200), st.integers(1, 20))
def test_pieces_of_a_long_text_file_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PIECE_BYTES", size)
        pieces = list(read(TextFiles(str(path))))
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.ends_document for piece in pieces] == [False] * (len(pieces) - 1) + [True] * bool(pieces)


def test_a_long_text_file_is_cut_at_the_ends_of_lines(real_files: list[Path]) -> None:
    longest = max(real_files, key=lambda path: path.stat().st_size)
    pieces = list(read(TextFiles(str(longest))))
    assert len(pieces) > 2
    assert all(piece.text.endswith("\n") for piece in pieces[:-1])
    assert max(len(piece.text.encode()) for piece in pieces) < 2 * sources.PIECE_BYTES


def test_a_directory_may_mix_formats_and_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nfrom csv\n")
    (tmp_path / "b.jsonl").write_text('{"text": "from jsonl"}\n\n{"text": null}\n{"text": ""}\n')
    (tmp_path / "c.md").write_text("\ufefffrom a text file")
    (tmp_path / "d.txt").write_text("")
    assert [piece.text for piece in read(TextFiles(str(tmp_path)))] == ["from csv", "from jsonl", "from a text file"]


def test_format_and_column_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text('{"body": "x"}\n')
    assert [piece.text for piece in read(TextFiles(str(tmp_path), "jsonl", "body"))] == ["x"]
    assert [piece.text for piece in read(TextFiles(str(tmp_path), "text"))] == ['{"body": "x"}\n']


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_packed_files_are_read_as_what_is_in_them(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(pack(b'{"text": "packed"}\n'))
    assert [piece.text for piece in read(TextFiles(str(tmp_path)))] == ["packed"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"fine\nfine\nb\xff\xfed\n", "a.txt:3: this is not UTF-8"),
        ("a.txt", b"x" * 40_000 + b"\n" + "ö".encode()[:1], "a.txt:2: this is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl:2: this line is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n"text"\n', "a.jsonl:2: each line has to be a JSON object"),
        ("a.jsonl", b'{"text": "x"}\n{"body": 1, "id": 2}\n', "a.jsonl:2: .*set dataset.column to one of body, id"),
        ("a.jsonl", b'{"text": ["x"]}\n', "a.jsonl:1: text is list, not text"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl:1: .*surrogate"),
        ("a.jsonl", b'{"text": "x"}\n\xff\n', "a.jsonl:2: this is not UTF-8"),
        ("a.csv", b"id,body\n1,x\n", "a.csv:1: .*set dataset.column to one of id, body"),
        ("a.csv", b"", "a.csv:1: .*one of none"),
        ("a.csv", b"id,text\n1,x\n2\n", "a.csv:3: 1 fields, but the header has 2"),
        ("a.csv", b'id,text\n1,"x"y\n', "a.csv:2: this is not CSV"),
        ("a.csv", b'id,text\n1,"\nx"\n2,\xff\n', "a.csv:4: this is not UTF-8"),
        ("a.parquet", b"PAR1 no PAR1", "a.parquet: this can't be read as parquet"),
        ("a.parquet", as_parquet(["x"])[:-20], "a.parquet: this can't be read as parquet"),
    ],
)
def test_an_error_names_file_and_line_and_what_to_do(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        list(read(TextFiles(str(tmp_path))))


def test_a_parquet_file_without_the_column_says_which_there_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: .*one of id, body"):
        list(read(TextFiles(str(tmp_path))))
    with pytest.raises(DataError, match=r"a.parquet:1: id is int, not text"):
        list(read(TextFiles(str(tmp_path), "auto", "id")))
