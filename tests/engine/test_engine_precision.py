from __future__ import annotations

import pytest
import torch

from luthier.engine import precision
from luthier.errors import SettingError


def test_an_absent_device_is_named() -> None:
    with pytest.raises(SettingError, match="'tpu'"):
        precision.choose_device("tpu")
    assert precision.choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(("gain", "expected"), [(2.0, torch.bfloat16), (1.0, None)])
def test_mixed_precision_only_where_it_gains(
    monkeypatch: pytest.MonkeyPatch, gain: float, expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(precision, "gain", lambda device, dtype: gain)
    assert precision.autocast_dtype(torch.device("cpu"), "auto") == expected
    assert precision.autocast_dtype(torch.device("cpu"), "fp32") is None
    assert precision.autocast_dtype(torch.device("cpu"), "bf16") == torch.bfloat16


def test_half_precision_on_a_cpu_is_refused() -> None:
    with pytest.raises(SettingError, match="fp16"):
        precision.autocast_dtype(torch.device("cpu"), "fp16")


def test_the_gain_is_measured_without_touching_the_random_state() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    precision.gain.cache_clear()
    assert precision.gain(torch.device("cpu"), torch.bfloat16) > 0
    assert torch.equal(before, torch.random.get_rng_state())
