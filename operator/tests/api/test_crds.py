"""What is generated is what is committed."""

import operator
import sys
from pathlib import Path

import pytest

from lmforge_api.crd import committed, file_name, files, main, write
from lmforge_api.kinds import KINDS

REPOSITORY = Path(__file__).resolve().parents[3]


def test_crds_are_what_the_generator_writes() -> None:
    assert committed(REPOSITORY / "crds") == files(), "run `make generate`"
    assert committed(REPOSITORY / "charts/lmforge/files/crds") == files(), "run `make generate`"


def test_check_says_which_folder_is_out_of_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "crds"
    assert main(["--check", str(folder)]) == 1
    assert f"out of date: {folder}: run make generate" in capsys.readouterr().err
    assert main([str(folder)]) == 0
    assert main(["--check", str(folder)]) == 0


def test_writing_removes_the_definitions_of_kinds_that_are_gone(tmp_path: Path) -> None:
    (tmp_path / "lmforge.dev_gone.yaml").write_text("")
    (tmp_path / "README.md").write_text("")
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", *sorted(map(file_name, KINDS))]


def test_kinds_do_not_share_names() -> None:
    names = [name for kind in KINDS for name in (kind.plural, kind.singular, *kind.short_names)]
    assert len(names) == len(set(names))


def test_the_source_root_operator_is_not_a_package_and_the_standard_library_keeps_its_name() -> None:
    assert not (REPOSITORY / "operator" / "__init__.py").exists()
    assert operator.__file__ is not None
    assert Path(operator.__file__).is_relative_to(sys.base_prefix)
