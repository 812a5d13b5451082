from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models_tiny
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from luthier.engine import augment, prefix
from luthier.engine.state import Halted
from luthier.models import cut, source
from luthier.models.network import Network, build
from luthier.recipe import Recipe
from luthier.tasks.base import Examples
from luthier.tasks.examples import ImageExamples, Ragged, TextExamples, TokenExamples

CPU = torch.device("cpu")
LENGTHS = [3, 9, 4, 12, 2, 7, 7, 5, 11, 3, 6]
Tiny = Callable[[str], Path]


class Halves:
    """Normalises to -1..1."""

    def encode(self, images: list[object], image_size: int | None = None) -> np.ndarray:
        raise NotImplementedError

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float() / 127.5 - 1


def network(tiny_model: Tiny, kind: str, *, level: str = "example", **settings: object) -> Network:
    found = source.find(str(tiny_model(kind)), "image" if kind in models_tiny.IMAGE else "text")
    recipe = Recipe(model="tiny", **{"adaptation": "probe"} | settings)
    return build(found, recipe, level=level, num_outputs=3, seed=0)  # type: ignore[arg-type]


def texts(lengths: list[int] = LENGTHS) -> TextExamples:
    rng = np.random.default_rng(0)
    ids = [rng.integers(7, 29, length) for length in lengths]
    return TextExamples(ids, np.arange(len(ids)), 1, np.zeros(len(ids)))


def tagged(lengths: list[int] = LENGTHS) -> TokenExamples:
    rng = np.random.default_rng(0)
    ids = [rng.integers(7, 29, length) for length in lengths]
    words = [np.array([-1, *range(length - 1)]) for length in lengths]
    return TokenExamples(ids, words, [rng.integers(0, 3, length) for length in lengths], 1)


def images(count: int = 7, side: int = models_tiny.SIDE) -> ImageExamples:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return ImageExamples(pixels, np.arange(count), Halves())


def captured(net: Network, examples: Examples, index: int, depth: int) -> torch.Tensor:
    """One example's states, alone."""
    with torch.no_grad():
        return cut.capture(net, [depth], examples.batch(np.array([index])).inputs)[depth][0]


def assert_same(first: torch.Tensor, second: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(first, second, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", models_tiny.TEXT)
@pytest.mark.parametrize("level", ["example", "token"])
def test_batches_hold_what_each_text_gives_alone(tiny_model: Tiny, kind: str, level: str) -> None:
    net = network(tiny_model, kind, level=level)
    examples = tagged() if level == "token" else texts()
    found = prefix.compute(net, examples, [0, 1, 2], CPU, dtype="float32", batch_size=4)
    chosen = np.array([4, 1, 10])
    wanted = examples.batch(chosen)
    for depth, features in found.items():
        batch = features.batch(chosen)
        states = batch.inputs["states" if depth else "features"]
        assert states.dtype == torch.float32
        assert torch.equal(batch.targets, wanted.targets)
        assert np.array_equal(batch.indices, chosen)
        assert ("attention_mask" in batch.inputs) == (depth > 0)
        if depth:
            assert torch.equal(batch.inputs["attention_mask"], wanted.inputs["attention_mask"])
        pooled = depth == 0 and level == "example"
        assert states.shape == ((3, net.width) if pooled else (3, 9, 32))
        assert features.lengths.tolist() == ([1] * len(LENGTHS) if pooled else LENGTHS)
        for row, index in enumerate(chosen):
            end = None if pooled else LENGTHS[index]
            assert_same(states[row][:end], captured(net, examples, index, depth))


@pytest.mark.parametrize("kind", models_tiny.IMAGE)
def test_batches_hold_what_each_image_gives_alone(tiny_model: Tiny, kind: str) -> None:
    net, examples = network(tiny_model, kind), images(5)
    depths = [0, 1, net.num_blocks]
    chosen = np.array([4, 1])
    for depth, features in prefix.compute(net, examples, depths, CPU, dtype="float32", batch_size=2).items():
        assert (features.ragged, len(features), features.lengths.tolist()) == (False, 5, [1] * 5)
        batch = features.batch(chosen)
        (states,) = batch.inputs.values()
        assert states.ndim != 4 or states.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch.targets, torch.tensor([4, 1]))
        for row, index in enumerate(chosen):
            assert_same(states[row], captured(net, examples, index, depth), 1e-4)


def test_a_network_goes_on_from_kept_states(tiny_model: Tiny) -> None:
    net, examples, chosen = network(tiny_model, "bert", pooling="mean"), texts(), np.array([4, 1, 10, 3])
    features = prefix.compute(net, examples, [1], CPU)[1]
    assert features.dtype_name == "float16"
    with torch.no_grad():
        wanted = net(**examples.batch(chosen).inputs)
        cut.at(net, 1)
        assert_same(net(**features.batch(chosen).inputs), wanted, 2e-3)


def test_one_pass_fills_several_depths(tiny_model: Tiny) -> None:
    net, examples = network(tiny_model, "roberta", adaptation="full"), texts()
    together = prefix.compute(net, examples, {2, 0, 1}, CPU)
    for depth in (0, 1, 2):
        alone = prefix.compute(net, examples, [depth], CPU)[depth]
        assert torch.equal(alone.values, together[depth].values)
        assert not alone.values.requires_grad
        assert alone.depth == together[depth].depth == depth


def test_sizes_and_types(tiny_model: Tiny) -> None:
    net, examples, tokens = network(tiny_model, "bert"), texts(), sum(LENGTHS)
    found = prefix.compute(net, examples, [0, 1], CPU)
    assert (found[0].dtype_name, found[0].bytes) == ("float32", len(LENGTHS) * 32 * 4)
    assert (found[1].dtype_name, found[1].bytes) == ("float16", tokens * 32 * 2)
    tagging = network(tiny_model, "bert", level="token")
    token_features = prefix.compute(tagging, tagged(), [0], CPU, dtype="bfloat16")[0]
    assert (token_features.dtype_name, token_features.bytes) == ("bfloat16", tokens * 32 * 2)
    assert found[1].truncated == 0
    assert found[1].fingerprint() == examples.fingerprint()


def test_double_precision_stays(tiny_model: Tiny) -> None:
    for kind, examples in (("bert", texts()), ("convnext", images(3))):
        net = network(tiny_model, kind).double()
        for depth, features in prefix.compute(net, examples, [0, 1], CPU, dtype="float64").items():
            assert features.dtype_name == "float64"
            (states, *_) = features.batch(np.array([1])).inputs.values()
            assert states.dtype == torch.float64
            with torch.no_grad():
                inputs = examples.batch(np.array([1])).inputs
                inputs = {n: x.double() if x.is_floating_point() else x for n, x in inputs.items()}
                wanted = cut.capture(net, [depth], inputs)[depth]
            assert_same(states, wanted, 1e-12)


def test_batches_can_be_of_another_type(tiny_model: Tiny) -> None:
    features = prefix.compute(network(tiny_model, "bert"), texts(), [1], CPU)[1]
    wide = features.to(torch.float64)
    first, second = (f.batch(np.array([1, 0])).inputs["states"] for f in (features, wide))
    assert (first.dtype, second.dtype) == (torch.float32, torch.float64)
    assert torch.equal(first.double(), second)
    assert wide.values is features.values


def test_kept_states_can_be_trained_from(tiny_model: Tiny) -> None:
    net = network(tiny_model, "bert")
    states = prefix.compute(net, texts(), [1], CPU)[1].batch(np.array([0, 1])).inputs["states"]
    weight = torch.ones(32, requires_grad=True)
    (states * weight).sum().backward()
    assert_same(weight.grad, states.sum((0, 1)))


@pytest.mark.parametrize("late", [False, True])
def test_values_too_large_for_half_precision_are_kept_in_bfloat16(
    tiny_model: Tiny, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    net, examples = network(tiny_model, "bert"), texts()
    capture = cut.capture
    big = 7e4 if not late else 65536.0

    def enlarge(net: Network, depths: list[int], inputs: dict[str, torch.Tensor]) -> dict[int, torch.Tensor]:
        states = capture(net, depths, inputs)
        length = inputs["input_ids"].shape[1]
        # Batches come longest first: the last one, or the first, holds a large value of the deeper state.
        # What stands where there is only padding does not count.
        if late == (length < max(LENGTHS)):
            states[2][0, 0, 0] = big
        states[1][:, -1][inputs["attention_mask"][:, -1] == 0] = 1e6
        return states

    monkeypatch.setattr(cut, "capture", enlarge)
    found = prefix.compute(net, examples, [1, 2], CPU, batch_size=6)
    exact = prefix.compute(net, examples, [1, 2], CPU, batch_size=6, dtype="float32")
    assert (found[1].dtype_name, found[2].dtype_name) == ("float16", "bfloat16")
    for depth, error in ((1, 2**-10), (2, 2**-8 + 2**-11)):
        assert bool(torch.isfinite(found[depth].values).all())
        torch.testing.assert_close(found[depth].values.float(), exact[depth].values, rtol=error, atol=1e-6)
    assert float(found[2].values.max()) >= 65536
    assert found[2].bytes == found[1].bytes


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.data(),
    st.sampled_from([torch.float16, torch.float32]),
)
def test_ragged_gather_equals_one_row_after_the_other(
    lengths: list[int], data: st.DataObject, dtype: torch.dtype
) -> None:
    rows = [np.arange(length, dtype=np.int32) + 10 * i for i, length in enumerate(lengths)]
    examples = TextExamples(Ragged(rows, np.int32), np.arange(len(rows)), 0, np.zeros(len(rows)))
    values = torch.from_numpy(examples.ids.values.repeat(2).reshape(-1, 2) + np.array([0.0, 0.5])).to(dtype)
    features = prefix.Features(values if len(values) else torch.zeros(1, 2), examples, 3, ragged=True)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6)))
    batch = features.batch(chosen)
    states, mask = batch.inputs["states"], batch.inputs["attention_mask"]
    assert states.shape == (len(chosen), max(1, *(lengths[i] for i in chosen), 0), 2)
    assert bool(torch.isfinite(states).all())
    assert mask.dtype == torch.int64
    assert torch.equal(mask, examples.batch(chosen).inputs["attention_mask"])
    assert batch.targets.tolist() == chosen.tolist()
    for row, index in enumerate(chosen):
        for token in range(lengths[index]):
            assert states[row, token].tolist() == [rows[index][token], rows[index][token] + 0.5]


def test_padding_repeats_the_example_itself() -> None:
    examples = texts([2, 4])
    features = prefix.Features(torch.arange(6.0)[:, None], examples, 1, ragged=True)
    assert features.batch(np.array([0, 1])).inputs["states"][:, :, 0].tolist() == [[0, 1, 1, 1], [2, 3, 4, 5]]


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_views_are_functions_of_image_and_number(tiny_model: Tiny, kind: str) -> None:
    net, examples = network(tiny_model, kind), images(7)
    options = {"dtype": "float32", "views": 3, "augmentation": "flip_shift"}
    found = prefix.compute(net, examples, [0, 1], CPU, batch_size=7, **options)
    other = prefix.compute(net, examples, [0, 1], CPU, batch_size=2, **options)
    fewer = prefix.compute(net, examples.take(np.arange(4)), [0, 1], CPU, **options | {"views": 2})
    plain = prefix.compute(net, examples, [0, 1], CPU, dtype="float32")
    for depth, features in found.items():
        assert features.views == 3
        assert features.values.shape == (3, *plain[depth].values.shape)
        assert_same(features.values, other[depth].values, 1e-4)
        assert_same(features.values[:2, :4], fewer[depth].values, 1e-4)
        assert not torch.allclose(features.values[0], features.values[1])
        assert not torch.allclose(features.values[0], plain[depth].values)


def test_batches_hold_the_views_asked_for(tiny_model: Tiny) -> None:
    net, examples = network(tiny_model, "convnext"), images(5)
    features = prefix.compute(net, examples, [1], CPU, dtype="float32", views=3, augmentation="flip")[1]
    chosen, views = np.array([4, 0, 4]), np.array([2, 1, 0])
    batch = features.batch(chosen, views)
    pixels = examples.batch(chosen).inputs["pixel_values"]
    for row, (index, number) in enumerate(zip(chosen, views, strict=True)):
        drawn = augment.view(5, number)[index : index + 1]
        changed = augment.change(pixels[row : row + 1], "flip", drawn)
        with torch.no_grad():
            wanted = cut.capture(net, [1], {"pixel_values": changed})[1][0]
        assert_same(batch.inputs["states"][row], wanted, 1e-4)
    assert batch.targets.tolist() == [4, 0, 4]
    assert torch.equal(features.batch(chosen).inputs["states"], features.values[0][chosen])


def test_a_pass_can_be_halted_and_tells_how_far_it_is(tiny_model: Tiny) -> None:
    net, told = network(tiny_model, "bert"), []

    def halt() -> str | None:
        return "enough" if len(told) == 2 else None

    with pytest.raises(Halted, match="enough"):
        prefix.compute(net, texts(), [0], CPU, batch_size=4, halt=halt, on_batch=told.append)
    assert told == [pytest.approx(39 / 69), pytest.approx(61 / 69)]
    prefix.compute(net, texts(), [0], CPU, batch_size=4, on_batch=told.append)
    assert told[-1] == 1.0


def test_values_of_other_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="belong"):
        prefix.Features(torch.zeros(5, 2), texts([2, 4]), 1, ragged=True)
    with pytest.raises(ValueError, match="belong"):
        prefix.Features(torch.zeros(2, 3, 4), images(4), 0, views=2)
