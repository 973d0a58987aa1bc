"""Files stay short and folders small enough to be looked over."""

from __future__ import annotations

from pathlib import Path

import pytest

import clip_lens_plugin

PACKAGE = Path(clip_lens_plugin.__file__).parent
LINES, FILES = 400, 12


def too_long(folder: Path) -> dict[str, int]:
    """Lines of each Python file that has more than it may."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py")}
    return {str(path.relative_to(folder)): n for path, n in lines.items() if n > LINES}


def too_full(folder: Path) -> dict[str, int]:
    """Modules of each folder that has more than it may; ``__init__.py`` and data files do not count."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modules = {each: len({*each.glob("*.py")} - {each / "__init__.py"}) for each in folders}
    return {str(each.relative_to(folder)): n for each, n in modules.items() if n > FILES}


@pytest.mark.parametrize("folder", [PACKAGE, Path(__file__).parent], ids=["package", "tests"])
def test_no_file_is_too_long(folder: Path) -> None:
    assert len([*folder.rglob("*.py")]) > 200
    assert too_long(folder) == {}


def test_no_folder_of_the_package_is_too_full() -> None:
    assert too_full(PACKAGE) == {}


def test_a_long_file_and_a_full_folder_are_found(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in ("__init__", *(f"m{i}" for i in range(FILES))):
        (inner / f"{name}.py").write_text("x = 1\n" * LINES)
    assert (too_long(tmp_path), too_full(tmp_path)) == ({}, {})
    (inner / "one_more.py").write_text("x = 1\n" * (LINES + 1))
    assert too_long(tmp_path) == {str(Path("inner", "one_more.py")): LINES + 1}
    assert too_full(tmp_path) == {"inner": FILES + 1}
