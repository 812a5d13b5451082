from __future__ import annotations

import pytest
import torch

from luthier.engine import precision
from luthier.errors import SettingError

CPU = torch.device("cpu")


def test_an_absent_device_is_named() -> None:
    with pytest.raises(SettingError, match="'tpu'"):
        precision.choose_device("tpu")
    assert precision.choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(("gain", "expected"), [(2.0, "bf16"), (1.0, "fp32")])
def test_mixed_precision_only_where_it_gains(
    monkeypatch: pytest.MonkeyPatch, gain: float, expected: str
) -> None:
    monkeypatch.setattr(precision, "gain", lambda device, dtype: gain)
    assert precision.measured(CPU) == expected


def test_a_recipes_own_precision_counts_before_what_was_measured() -> None:
    assert precision.autocast_dtype(CPU, "auto", "fp32") is None
    assert precision.autocast_dtype(CPU, "auto", "bf16") == torch.bfloat16
    assert precision.autocast_dtype(CPU, "fp32", "bf16") is None
    assert precision.autocast_dtype(CPU, "bf16", "fp32") == torch.bfloat16


def test_half_precision_on_a_cpu_is_refused() -> None:
    with pytest.raises(SettingError, match="fp16"):
        precision.autocast_dtype(CPU, "fp16", "fp32")


def test_the_gain_is_measured_without_touching_the_random_state() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    precision.gain.cache_clear()
    assert precision.gain(CPU, torch.bfloat16) > 0
    assert torch.equal(before, torch.random.get_rng_state())
