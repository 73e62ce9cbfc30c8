"""Files: what goes in comes out, whole or not at all, and nothing is executed."""
from __future__ import annotations

import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import io, nn
from minigrad.errors import CaptureError, DamagedFileError, DeviceError

NAMES = ["state.safetensors", "state.npz", "model.pt", "checkpoint"]


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if not request.param.endswith(".npz"):
        pytest.importorskip("safetensors")
    return tmp_path / str(request.param)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, mg.Tensor | np.ndarray | np.generic):
        x, y = np.asarray(a), np.asarray(b)
        kinds = (mg.Tensor, np.ndarray, np.generic)
        return ([isinstance(a, k) for k in kinds] == [isinstance(b, k) for k in kinds] and x.dtype == y.dtype and x.shape == y.shape
                and x.tobytes() == y.tobytes())
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


def nested() -> dict[str, Any]:
    return {
        "model": nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1, bias=False)).state_dict(),
        "optimizer": {"state": {0: {"momentum_buffer": mg.ones(3), "step": 7}, 1: {}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999),
                                                                                                        "nesterov": False, "params": [0, 1]}]},
        "epoch": 3, "best": float("inf"), "worst": float("nan"), "name": "run \u2713", "none": None, "large": 2**200, "scalar": np.float32(1.5),
        "arrays": [np.arange(6).reshape(2, 3), np.zeros((0, 4)), np.array(True), np.arange(12, dtype=np.float32).reshape(3, 4).T,
                   np.arange(3, dtype=np.uint8)],
    }


def test_nested_state_comes_back_as_it_was(path: Path) -> None:
    state = nested()
    mg.save(state, path)
    assert same(mg.load(path), state)
    assert same(mg.load(str(path), map_location=mg.device("cpu"), weights_only=False), state)


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
                   st.builds(np.arange, st.integers(0, 3)), st.builds(mg.tensor, st.lists(st.floats(width=32), min_size=1, max_size=3)))
TREES = st.dictionaries(st.one_of(st.text(), st.integers()),
                        st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner, inner),
                                                                     st.dictionaries(st.text(), inner, max_size=3)), max_leaves=8), max_size=4)


@given(TREES)
def test_any_tree_is_described_completely(tree: dict[Any, Any]) -> None:
    arrays: Any = {}
    packed = io._packed(tree, "", arrays)
    assert same(io._unpacked(packed, arrays), tree)


def test_a_model_is_saved_and_loaded_in_pytorchs_words(path: Path) -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    mg.save(first.state_dict(), path)
    assert repr(second.load_state_dict(mg.load(path))) == "<All keys matched successfully>"
    assert np.array_equal(first.weight.array, second.weight.array)


@pytest.mark.parametrize("name", ["a.b", "minigrad", "minigrad.crc32", "__metadata__", "file", "allow_pickle", "", "x#1", "a/b", "../a"])
def test_no_name_gets_in_the_way(path: Path, name: str) -> None:
    state = {name: mg.ones(2), "a": {"b": mg.zeros(1)}}
    mg.save(state, path)
    assert same(mg.load(path), state)


def test_other_programs_read_it_and_write_it(tmp_path: Path) -> None:
    safe = pytest.importorskip("safetensors.numpy")
    mg.save({"model": {"w": mg.ones(2)}, "epoch": 3}, tmp_path / "a")
    assert safe.load_file(tmp_path / "a")["model.w"].tolist() == [1, 1]
    safe.save_file({"w": np.arange(3)}, tmp_path / "b")
    found = mg.load(tmp_path / "b")
    assert isinstance(found["w"], mg.Tensor) and found["w"].tolist() == [0, 1, 2]
    mg.save({"model": {"w": mg.ones(2)}}, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["model.w"].tolist() == [1, 1]
    np.savez(tmp_path / "b.npz", w=np.arange(3))
    assert mg.load(tmp_path / "b.npz")["w"].tolist() == [0, 1, 2]


# ---- whole or not at all
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mg.save({"w": mg.ones(2)}, path)
    before = path.read_bytes()

    def broken(*anything: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="no space left"):
            mg.save({"w": mg.zeros(5)}, path)
    wrong: list[tuple[Any, str]] = [({"w": object()}, "w is a object"), ({"x": np.ones(1, complex)}, "x is complex128"),
                                    ({"w": mg.ones(1), ("a",): 1}, "has the key"), ({"m": nn.Linear(1, 1)}, "save its state_dict")]
    for state, problem in wrong:
        with pytest.raises(TypeError, match=problem):
            mg.save(state, path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["w", "w.npz"])
def test_every_changed_byte_of_a_file_is_noticed_or_means_nothing(tmp_path: Path, name: str) -> None:
    if name == "w":
        pytest.importorskip("safetensors")
    path = tmp_path / name
    mg.save({"w": mg.tensor([1.0, 2.0]), "n": {"k": 5}}, path)
    whole, noticed = path.read_bytes(), 0
    expected = mg.load(path)
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1:])
        try:
            assert same(mg.load(path), expected)
        except DamagedFileError:
            noticed += 1
    assert noticed > len(whole) / 3
    for cut in (0, 1, 7, 20, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DamagedFileError):
            mg.load(path)


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "plain").write_bytes(pickle.dumps(Trap()))
    with zipfile.ZipFile(tmp_path / "torch.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
    np.savez(tmp_path / "object.npz", w=np.array([Trap()], object))
    for name, text in (("plain", "is a pickle, which minigrad does not execute"), ("torch.pt", "as torch.save writes it"),
                       ("object.npz", "damaged, or no npz file")):
        sprung = tmp_path / "sprung"
        with pytest.raises(DamagedFileError, match=text):
            mg.load(tmp_path / name)
        assert not sprung.exists()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "real.npz", tmp_path / "link.npz"
    target.touch()
    link.symlink_to(target)
    mg.save({"w": mg.ones(1)}, link)
    assert link.is_symlink() and mg.load(target)["w"].tolist() == [1]


# ---- what is refused
def test_arguments_that_make_no_sense_say_so(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="the state first and the path second"):
        mg.save(tmp_path / "x.npz", {"w": mg.ones(1)})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="save its state_dict"):
        mg.save(nn.Linear(1, 1), tmp_path / "x.npz")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        mg.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        mg.save({"w": mg.ones(1)}, tmp_path / "no" / "x.npz")
    with pytest.raises(DeviceError):
        mg.load(tmp_path / "none", map_location="cuda")

    @mg.capture
    def step(x: Any) -> Any:
        mg.save({"w": x}, tmp_path / "x.npz")
        return x * 2.0

    with pytest.raises(CaptureError, match="save between the calls"):
        step(np.ones(2))


def test_without_safetensors_the_command_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"12345678")
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    for attempt in (lambda: mg.save({"w": mg.ones(1)}, tmp_path / "y"), lambda: mg.load(tmp_path / "x")):
        with pytest.raises(ModuleNotFoundError, match=r'pip install "minigrad-numba\[io\]"'):
            attempt()
    mg.save({"w": mg.ones(1)}, tmp_path / "y.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x", "y.npz"]


@pytest.mark.parametrize(("length", "start"), [(0x780, b"\x80\x07"), (0x4B50, b"PK")])
def test_a_header_whose_length_reads_like_another_format_is_read(length: int, start: bytes, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "model.pth"

    def saved(padding: int) -> bytes:
        mg.save({"text": "x" * padding, "values": np.arange(3.0)}, path)
        return path.read_bytes()[:8]

    base = int.from_bytes(saved(0), "little")
    assert any(saved(padding).startswith(start) for padding in range(length - base - 8, length - base + 9))
    assert mg.load(path)["values"].tolist() == [0.0, 1.0, 2.0]
