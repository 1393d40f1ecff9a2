"""A folder of wheels is complete, or what is missing is named: for any Python, without an index."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from appliance.errors import PrerequisiteError
from appliance.pack.closure import check_closure, names_of, offered, remove_others
from appliance.pack.wheelhouse import versions_of, without
from tests.support.cases import REPOSITORY


def wheel(folder: Path, name: str, *needs: str, tag: str = "py3-none-any") -> None:
    """A wheel that holds nothing but what it asks for. name: with its version, such as a-1.0."""
    metadata = "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(folder / f"{name}-{tag}.whl", "w") as archive:
        archive.writestr(f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\n{metadata}\n")


def check(folder: Path, *pins: str, left_out: tuple[str, ...] = (), python: str = "3.12") -> None:
    (folder / "requirements.txt").write_text("# pinned\n" + "\n".join(pins) + "\n")
    check_closure(folder / "requirements.txt", (python,), folder, left_out=left_out)


def test_a_whole_folder_passes(tmp_path: Path) -> None:
    wheel(tmp_path, "a-1.0", "B_c>=2; python_version >= '3.10'", "win-only; os_name == 'nt'")
    wheel(tmp_path, "b_c-2.1", "a<2")
    check(tmp_path, "a==1.0", "b-c==2.1")


def test_what_is_missing_is_named_with_who_needs_it(tmp_path: Path) -> None:
    wheel(tmp_path, "a-1.0", "b>=2", "c")
    wheel(tmp_path, "b-1.0")
    with pytest.raises(PrerequisiteError) as caught:
        check(tmp_path, "a==1.0")
    assert "a needs b>=2, and 1.0 is there" in caught.value.found
    assert "a needs c, and it is not there" in caught.value.found


def test_the_needs_of_an_extra_count_where_somebody_asks_for_it(tmp_path: Path) -> None:
    wheel(tmp_path, "a-1.0", "b[fast]")
    wheel(tmp_path, "b-1.0", "c; extra == 'fast'", "d; extra == 'slow'")
    with pytest.raises(PrerequisiteError, match="b needs c, and it is not there"):
        check(tmp_path, "a==1.0", "b==1.0")
    wheel(tmp_path, "c-1.0")
    check(tmp_path, "a==1.0", "b==1.0")


def test_a_wheel_for_another_python_is_not_there(tmp_path: Path) -> None:
    wheel(tmp_path, "a-1.0", tag="cp312-cp312-manylinux_2_28_x86_64")
    check(tmp_path, "a==1.0")
    with pytest.raises(PrerequisiteError, match=r"Python 3.13: the list needs a==1.0"):
        check(tmp_path, "a==1.0", python="3.13")


def test_what_an_earlier_packing_left_is_removed(tmp_path: Path) -> None:
    """Else it is uploaded as well, and an older version may be taken for the pinned one."""
    here = "cp312-cp312-manylinux_2_28_x86_64"
    for name, tag in (("a-1.0", here), ("a-0.9", here), ("b_c-2.0", "py3-none-any")):
        wheel(tmp_path, name, tag=tag)
    wheel(tmp_path, "a-1.0", tag="cp313-cp313-manylinux_2_28_x86_64")
    wheel(tmp_path, "arc_appliance-0.1")
    (tmp_path / "requirements.txt").write_text("a==1.0\nB-c==2.0\n")

    remove_others(tmp_path / "requirements.txt", ("3.12",), tmp_path)
    names = {"a": f"a-1.0-{here}.whl", "b-c": "b_c-2.0-py3-none-any.whl"}
    assert {n: w.path.name for n, w in offered(tmp_path, "3.12").items()} == names
    assert {path.name for path in tmp_path.glob("*.whl")} == set(names.values())


def test_what_is_left_out_may_be_missing(tmp_path: Path) -> None:
    wheel(tmp_path, "unsloth-1.0", "xformers>=0.0.27")
    check(tmp_path, "unsloth==1.0", left_out=("xformers",))


def test_the_list_for_gpus_holds_nothing_that_it_is_said_to_leave_out() -> None:
    """xformers asks for CUDA 12, and the torch of the list is for CUDA 13."""
    left_out = names_of(REPOSITORY / "requirements/overrides-gpu.txt")
    assert "xformers" in left_out
    pinned = re.findall(r"^([\w.-]+)==", (REPOSITORY / "requirements/gpu.txt").read_text(), re.M)
    assert not set(left_out) & set(pinned)


def test_the_package_for_kaggle_leaves_out_what_only_pictures_need(tmp_path: Path) -> None:
    names = names_of(REPOSITORY / "requirements/overrides-kaggle.txt")
    assert "matplotlib" in names
    for target in ("cpu", "gpu"):
        whole = REPOSITORY / "requirements" / f"{target}.txt"
        cut = without(whole, names, tmp_path)
        before, after = versions_of([whole]).splitlines(), versions_of([cut]).splitlines()
        gone = [line for line in before if line not in after]
        assert sorted(line.split("==")[0] for line in gone) == sorted(names)
        assert [line for line in before if line in after] == after


def test_an_entry_goes_with_its_hashes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(
        "# pinned\na==1 \\\n    --hash=sha256:aa\nB_c==2 \\\n    --hash=sha256:bb\nd==3\n"
    )
    out = tmp_path / "cut"
    out.mkdir()
    cut = without(tmp_path / "list.txt", ["b-c"], out)
    assert cut.read_text() == "# pinned\na==1 \\\n    --hash=sha256:aa\nd==3\n"
