import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmforge_workloads.common.exits import DataError
from lmforge_workloads.train.indexed import IndexedDataset, IndexedWriter, token_dtype
from lmforge_workloads.train.layers import megatron_layers

DOCUMENTS = [[1, 2, 3], [], [65_499], list(range(1000)), [0]]


def write(prefix: Path, documents: list[list[int]], dtype: type = np.int32) -> None:
    with IndexedWriter(prefix, dtype=dtype) as writer:
        for document in documents:
            writer.add(document)


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=30), max_size=20))
def test_any_documents_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]]
) -> None:
    prefix = tmp_path_factory.mktemp("tokens") / "train"
    write(prefix, documents)
    dataset = IndexedDataset(prefix)
    assert [list(dataset[index]) for index in range(len(dataset))] == documents
    assert list(dataset.documents) == list(range(len(documents) + 1))
    assert list(dataset.tokens) == [token for document in documents for token in document]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_megatron_core_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path, dtype: type) -> None:
    megatron_layers()  # imports megatron-core the quick way
    from megatron.core.datasets.indexed_dataset import IndexedDataset as Theirs
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
    from torch import tensor

    write(tmp_path / "ours", DOCUMENTS, dtype)
    theirs = Theirs(str(tmp_path / "ours"))
    assert [list(theirs[index]) for index in range(len(theirs))] == DOCUMENTS
    assert list(theirs.document_indices) == [0, 1, 2, 3, 4, 5]

    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=dtype)
    for document in DOCUMENTS:
        builder.add_item(tensor(document))
        builder.end_document()
    builder.finalize(str(tmp_path / "theirs.idx"))
    for suffix in (".bin", ".idx"):
        ours = (tmp_path / "ours").with_suffix(suffix).read_bytes()
        assert ours == (tmp_path / "theirs").with_suffix(suffix).read_bytes()
    assert list(IndexedDataset(tmp_path / "theirs")[3]) == DOCUMENTS[3]


def test_a_document_may_consist_of_several_sequences(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "train", dtype=np.uint16) as writer:
        writer.add([1], ends_document=False)
        writer.add([2])
        writer.add([3])
    dataset = IndexedDataset(tmp_path / "train")
    assert list(dataset.documents) == [0, 2, 3]
    assert list(dataset.tokens) == [1, 2, 3]


def test_an_error_while_writing_leaves_no_index(tmp_path: Path) -> None:
    with pytest.raises(OverflowError), IndexedWriter(tmp_path / "train", dtype=np.uint16) as writer:
        writer.add([70_000])
    assert not (tmp_path / "train.idx").exists()


@pytest.mark.parametrize(("file", "size"), [("train.bin", 5), ("train.idx", 20), ("train.idx", 0)])
def test_a_cut_file_is_found_and_named(tmp_path: Path, file: str, size: int) -> None:
    write(tmp_path / "train", DOCUMENTS)
    os.truncate(tmp_path / file, size)
    with pytest.raises(DataError, match=file):
        IndexedDataset(tmp_path / "train")


@pytest.mark.parametrize(("vocabulary", "dtype"), [(260, np.uint16), (65_499, np.uint16), (65_500, np.int32)])
def test_small_vocabularies_take_two_bytes_a_token(vocabulary: int, dtype: type) -> None:
    assert token_dtype(vocabulary) is dtype
