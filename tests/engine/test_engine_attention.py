"""Which way to attend a step takes; that each gives the same is torch's affair, and seen here once."""

from __future__ import annotations

import pytest
import torch
from torch.backends.cuda import flash_sdp_enabled
from torch.nn import functional as F

from luthier.engine.attention import SHORT, quickest

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dtype", "length", "plain"),
    [(torch.bfloat16, 16, True), (torch.bfloat16, SHORT + 1, False), (None, 16, False)],
)
def test_short_texts_in_half_precision_are_attended_to_by_plain_products(
    dtype: torch.dtype | None, length: int, plain: bool
) -> None:
    inputs = {"attention_mask": torch.ones(2, length)}
    with quickest(CPU, dtype, inputs):
        assert flash_sdp_enabled() is not plain
    assert flash_sdp_enabled()


def test_images_are_left_alone() -> None:
    with quickest(CPU, torch.bfloat16, {"pixel_values": torch.ones(2, 3, 8, 8)}):
        assert flash_sdp_enabled()


def test_both_ways_give_the_same_but_for_rounding() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 16, 8) for _ in range(3))
    mask = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    mask[..., 12:] = False
    fused = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    with quickest(CPU, torch.bfloat16, {"attention_mask": mask}):
        plain = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(plain, fused, atol=1e-5, rtol=0)
