from __future__ import annotations

import numpy as np
import pytest
import torch

from luthier.engine.augment import DRAWS, augment, change, view


def numbered(images: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.arange(images * 3 * height * width, dtype=torch.float32).reshape(images, 3, height, width)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 3), (4, 6), (1, 5)])
def test_an_image_is_mirrored_then_moved_and_its_border_repeated(mirrored: bool, top: int, left: int) -> None:
    pixels = numbered(1)
    numbers = np.array([[0.2 if mirrored else 0.8, (top + 0.5) / 5, (left + 0.5) / 7]])
    found = change(pixels, "flip_shift", numbers)[0]
    wanted = torch.empty_like(pixels[0])
    for row in range(16):
        for column in range(24):
            y, x = min(max(row + top - 2, 0), 15), min(max(column + left - 3, 0), 23)
            wanted[:, row, column] = pixels[0, :, y, 23 - x if mirrored else x]
    assert torch.equal(found, wanted)


def test_half_are_mirrored_and_every_shift_occurs() -> None:
    pixels = numbered(1, 16, 16).repeat(2000, 1, 1, 1)
    rng = np.random.default_rng(0)
    flipped = augment(pixels, "flip", rng)[:, 0, 0, 0] == 15
    assert 0.45 < float(flipped.float().mean()) < 0.55
    # The middle pixel of one channel names the shift and the mirroring: 5 x 5 shifts, two ways round.
    middles = augment(pixels, "flip_shift", rng)[:, 0, 8, 8].unique(return_counts=True)
    assert len(middles[0]) == len({(y, x) for y in range(6, 11) for x in [*range(6, 11), *range(5, 10)]})
    assert float(middles[1].min()) > 2000 / 50 / 3


def test_changes_are_a_function_of_the_generator_alone() -> None:
    pixels = torch.rand(40, 3, 16, 24)
    before = pixels.clone()
    torch.manual_seed(1)
    first = augment(pixels, "flip_shift", np.random.default_rng(3))
    torch.manual_seed(2)
    assert torch.equal(first, augment(pixels, "flip_shift", np.random.default_rng(3)))
    assert not torch.equal(first, augment(pixels, "flip_shift", np.random.default_rng(4)))
    assert torch.equal(pixels, before)
    # In two parts, as microbatches go, the same numbers are drawn.
    rng = np.random.default_rng(3)
    parts = [augment(part, "flip_shift", rng) for part in pixels.split(25)]
    assert torch.equal(first, torch.cat(parts))


def test_a_view_is_a_function_of_the_image_and_its_number() -> None:
    assert view(50, 1).shape == (50, DRAWS)
    assert np.array_equal(view(50, 1)[:20], view(20, 1))
    assert not np.isin(view(50, 1), view(50, 2)).any()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'none'"):
        augment(numbered(), "none", np.random.default_rng(0))
