from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from luthier.engine import cache, prefix
from luthier.engine.cache import FeatureCache
from luthier.engine.prefix import Features
from luthier.engine.shelf import META, VALUES
from luthier.models import source
from luthier.models.network import build
from luthier.recipe import Recipe
from luthier.tasks.examples import ImageExamples, TextExamples

LARGE = 10**9


def name(number: int) -> str:
    return f"{number:040x}"


def texts(seed: int = 0) -> TextExamples:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(7, 29, length) for length in (3, 5, 2)]
    return TextExamples(ids, rng.integers(0, 9, 3), 1, np.array([True, False, False]))


def features(number: int = 0, examples: TextExamples | None = None) -> Features:
    """1000 bytes of it."""
    values = torch.arange(250, dtype=torch.float32).view(10, 25) + number
    return Features(values, examples or texts(), 2, ragged=True)


def found(store: FeatureCache) -> set[int]:
    return {number for number in range(9) if store.get(name(number), texts()) is not None}


def assert_equal(first: Features | None, second: Features) -> None:
    assert first is not None
    assert torch.equal(first.values, second.values)
    assert (first.depth, first.views, first.ragged, first.dtype) == (
        second.depth, second.views, second.ragged, second.dtype
    )  # fmt: skip
    assert first.truncated == second.truncated
    one, other = (each.batch(np.array([2, 0])) for each in (first, second))
    assert one.inputs.keys() == other.inputs.keys()
    assert all(torch.equal(one.inputs[key], other.inputs[key]) for key in one.inputs)
    assert torch.equal(one.targets, other.targets)


@pytest.mark.parametrize("ram_bytes", [LARGE, 0])
def test_what_is_kept_is_what_was_computed(
    tiny_model: Callable[[str], Path], tmp_path: Path, ram_bytes: int
) -> None:
    recipe = Recipe(model="tiny", adaptation="probe")
    network = build(
        source.find(str(tiny_model("bert")), "text"), recipe, level="example", num_outputs=2, seed=0
    )
    for dtype in ("float16", "bfloat16", "float32"):
        for depth, computed in prefix.compute(
            network, texts(), [0, 1, 2], torch.device("cpu"), dtype=dtype
        ).items():
            key = cache.key(weights="w", data=texts().fingerprint(), depth=depth, dtype=dtype)
            store = FeatureCache(tmp_path / dtype, ram_bytes)
            assert store.get(key, texts()) is None
            assert store.put(key, computed)
            assert_equal(store.get(key, texts()), computed)
            # By another process, which has it from the disk.
            again = FeatureCache(tmp_path / dtype, ram_bytes)
            assert again.has(key)
            assert_equal(again.get(key, texts()), computed)
            # Computing once more gives the same bits.
            assert_equal(
                prefix.compute(network, texts(), [depth], torch.device("cpu"), dtype=dtype)[depth], computed
            )


def test_views_of_images_are_kept(tmp_path: Path) -> None:
    examples = ImageExamples(np.zeros((3, 3, 8, 8), np.uint8), np.arange(3), None)  # type: ignore[arg-type]
    views = Features(torch.randn(2, 3, 4, 5, 5).half(), examples, 1, views=2)
    FeatureCache(tmp_path, 0).put(name(1), views)
    assert_equal(FeatureCache(tmp_path, 0).get(name(1), examples), views)


def test_targets_are_those_of_the_examples_asked_with(tmp_path: Path) -> None:
    old, new = texts(), texts()
    new.targets = old.targets + 100
    for ram_bytes in (LARGE, 0):
        store = FeatureCache(tmp_path, ram_bytes)
        store.put(name(1), features(examples=old))
        got = store.get(name(1), new)
        assert got is not None
        assert got.targets.tolist() == new.targets.tolist()
    assert all(b"target" not in path.read_bytes() for path in tmp_path.rglob("*.*"))


def test_the_least_recently_used_leaves_the_memory() -> None:
    store = FeatureCache(None, 3500)
    for number in range(3):
        assert store.put(name(number), features(number))
    assert store.get(name(0), texts()) is not None
    assert store.put(name(3), features(3))
    assert store.ram_used == 3000
    assert found(store) == {0, 2, 3}
    assert store.put(name(3), features(3))
    assert (store.ram_used, found(store)) == (3000, {0, 2, 3})
    store.clear()
    assert (store.ram_used, found(store)) == (0, set())


def test_what_leaves_the_memory_is_still_on_disk(tmp_path: Path) -> None:
    store = FeatureCache(tmp_path, 1500, LARGE)
    for number in range(3):
        assert store.put(name(number), features(number))
    assert store.ram_used == 1000
    for number in range(3):
        assert_equal(store.get(name(number), texts()), features(number))
    assert store.ram_used == 1000
    store.clear()
    assert found(store) == set()


def test_use_from_memory_counts_as_use_on_disk(tmp_path: Path) -> None:
    store = FeatureCache(tmp_path, LARGE, 2700)
    for number in range(2):
        store.put(name(number), features(number))
        os.utime(tmp_path / name(number) / META, (1000 + number,) * 2)
    store.get(name(0), texts())
    store.put(name(2), features(2))
    assert {path.name for path in tmp_path.iterdir()} == {name(0), name(2)}


def test_what_is_larger_than_the_memory_lies_on_disk_alone(tmp_path: Path) -> None:
    store = FeatureCache(tmp_path, 999, LARGE)
    assert store.capacity >= 999
    assert store.put(name(1), features(1))
    assert store.ram_used == 0
    got = store.get(name(1), texts())
    assert_equal(got, features(1))
    assert store.ram_used == 0
    assert store.has(name(1))


@pytest.mark.parametrize("folder", [True, False])
def test_what_is_too_large_for_both_is_refused(tmp_path: Path, folder: bool) -> None:
    store = FeatureCache(tmp_path if folder else None, 999, 999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not store.put(name(1), features(1))
    assert store.capacity == 999
    assert not store.has(name(1))
    assert store.get(name(1), texts()) is None


def test_damage_on_disk_is_recomputed(tmp_path: Path) -> None:
    FeatureCache(tmp_path).put(name(1), features(1))
    path = tmp_path / name(1) / VALUES
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    store = FeatureCache(tmp_path)
    assert store.has(name(1))
    assert store.get(name(1), texts()) is None
    assert not store.has(name(1))
    assert store.put(name(1), features(1))
    assert_equal(FeatureCache(tmp_path).get(name(1), texts()), features(1))


def test_a_disk_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = FeatureCache(tmp_path / "file" / "cache", 1500)
    with pytest.warns(UserWarning, match="cannot be kept in '.*cache'.*LUTHIER_CACHE") as caught:
        assert store.put(name(1), features(1))
        assert store.put(name(2), features(2))
    assert len(caught) == 1
    assert Path(caught[0].filename).name == Path(__file__).name
    assert found(store) == {2}
    # Nor is it tried again: a write that fails at the end of a large file takes its time.
    (tmp_path / "file").unlink()
    assert store.put(name(3), features(3))
    assert not (tmp_path / "file").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not FeatureCache(None, 0).put(name(1), features(1))


def test_a_full_disk_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.engine.shelf.SPARE_SHARE", 2.0)
    store = FeatureCache(tmp_path, 1500)
    with pytest.warns(UserWarning, match="too full") as caught:
        assert store.put(name(1), features(1))
        assert store.put(name(2), features(2))
    assert len(caught) == 1
    # It may have room again.
    monkeypatch.undo()
    assert store.put(name(3), features(3))
    assert FeatureCache(tmp_path, 0).has(name(3))


def test_a_key_says_all_that_outputs_depend_on() -> None:
    settings = {
        "weights": "w", "data": "d", "depth": 0, "level": "token", "pooling": "native", "dtype": "float16",
        "views": 2, "augmentation": "flip", "preprocessing": (128, None), "device": "cpu",
        "precision": "fp32",
    }  # fmt: skip
    changes = {
        "weights": "v", "data": "e", "depth": 1, "level": "example", "pooling": "mean", "dtype": "float32",
        "views": 3, "augmentation": "flip_shift", "preprocessing": (None, 128), "device": "cuda",
        "precision": "bf16",
    }  # fmt: skip
    assert settings.keys() == changes.keys()
    keys = [cache.key(**settings), *(cache.key(**settings | {name: changes[name]}) for name in settings)]
    assert len(set(keys)) == len(keys)
    assert cache.key(**settings) == keys[0]
    assert FeatureCache(None).get(keys[0], texts()) is None


def test_heads_share_the_states_below_them() -> None:
    def key(**settings: object) -> str:
        return cache.key(weights="w", data="d", **settings)  # type: ignore[arg-type]

    assert key(depth=2, pooling="mean") == key(depth=2, pooling="cls", level="token")
    assert key(depth=0, dtype="float16") == key(depth=0, dtype="float32")
    assert key(depth=0, dtype="float64") != key(depth=0, dtype="float32")
    assert key(depth=2, dtype="float16") != key(depth=2, dtype="float32")
    assert key(depth=2, views=0, augmentation="flip") == key(depth=2, views=0)


def test_another_version_computes_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache.key(weights="w", data="d", depth=1)
    with monkeypatch.context() as patch:
        patch.setattr(cache.importlib.metadata, "version", lambda _: "9.9")
        assert cache.key(weights="w", data="d", depth=1) != key
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.9")
        assert cache.key(weights="w", data="d", depth=1) != key


def test_the_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LUTHIER_CACHE", raising=False)
    assert cache.default_folder() == tmp_path / "luthier" / "features"
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "here"))
    assert cache.default_folder() == tmp_path / "here"
    monkeypatch.setenv("LUTHIER_CACHE", "Off")
    assert cache.default_folder() is None
    monkeypatch.delenv("LUTHIER_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.default_folder() == tmp_path / "home" / ".cache" / "luthier" / "features"


def test_the_description_can_be_read_by_people(tmp_path: Path) -> None:
    FeatureCache(tmp_path).put(name(1), features(1))
    _, line = (tmp_path / name(1) / META).read_text().splitlines()
    meta = json.loads(line)
    assert (meta["shape"], meta["dtype"], meta["note"]["depth"]) == ([10, 25], "float32", 2)
