"""Layers that compute by oneDNN say what they said before, and stay what they were."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers.activations import GELUActivation

from luthier.engine import allocator, packed
from luthier.engine.packed import pack


def network(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(12, 20, bias=bias), nn.GELU(), nn.Linear(20, 5)).eval()


TIMED = packed.pays


@pytest.fixture(autouse=True)
def pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is the faster here."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(packed, "pays", lambda: True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 12), (7, 12), (8, 12), (3, 9, 12), (2, 3, 4, 12)])
def test_answers_are_the_same(shape: tuple[int, ...], bias: bool) -> None:
    plain = network(bias)
    fast = copy.deepcopy(plain)
    assert pack(fast) == 2
    given = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(fast(given), plain(given), rtol=1e-5, atol=1e-6)
        # As a slice, whose rows do not lie side by side.
        wide = torch.randn(*shape[:-1], 24)[..., ::2]
        torch.testing.assert_close(fast(wide), plain(wide), rtol=1e-5, atol=1e-6)


def test_few_numbers_of_rows_are_computed_with() -> None:
    found = [packed.rounded(rows) for rows in range(1, 4097)]
    assert all(rows <= said < rows + max(8, rows / 8) for rows, said in enumerate(found, start=1))
    assert len(set(found)) < 80 and found == sorted(found)


def test_programs_are_made_beforehand_the_largest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[tuple[int, ...]] = []
    usual = packed._packed

    def counted(layer: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
        forward = usual(layer)

        def wrapped(given: torch.Tensor) -> torch.Tensor:
            met.append(tuple(given.shape))
            return forward(given)

        return wrapped

    monkeypatch.setattr(packed, "_packed", counted)
    monkeypatch.setattr(packed, "_prepared", set())
    twice = nn.Sequential(network(), nn.Linear(5, 12), network()).eval()
    assert pack(copy.deepcopy(twice)) == 5 and not met
    assert pack(twice, 100) == 5
    rows = [count for count, width in met if width == 12]
    assert rows == sorted({packed.rounded(count) for count in range(1, 101)}, reverse=True)
    assert {width for _, width in met} == {12, 20, 5} and len(met) == 3 * len(rows)
    # What the process has is not made again.
    assert pack(network(), 100) == 2 and len(met) == 3 * len(rows)


@pytest.mark.parametrize("kind", [nn.GELU, lambda: nn.GELU("tanh"), GELUActivation])
def test_activations_say_the_same(kind: Callable[[], nn.Module]) -> None:
    usual = nn.Sequential(nn.Linear(12, 20), kind()).eval()
    found = copy.deepcopy(usual)
    assert pack(found) == 1 and "forward" in vars(found[1])
    for shape in ((7, 12), (3, 5, 12), (2, 3, 5, 12)):
        given = torch.randn(shape)
        with torch.inference_mode():
            torch.testing.assert_close(found(given), usual(given), rtol=1e-5, atol=2e-6)


HEAP = """
import torch
from torch import nn
from transformers.activations import GELUActivation
from luthier.engine import allocator, packed

packed.pays = lambda: True
network = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 20), GELUActivation()).eval()
packed.pack(network, 256)

def grown(layer, size):
    layer(torch.ones(1, 1, size))
    before = allocator._information().uordblks
    for rows in range(1, 12):
        for length in range(5, 20):
            layer(torch.ones(rows, length, size))
    return (allocator._information().uordblks - before) / 2**20

with torch.inference_mode():
    print(grown(network, 12), grown(nn.GELU(), 21))
"""


def test_shapes_that_are_new_leave_nothing_in_the_heap() -> None:
    """In a process of its own: oneDNN drops old programs for new ones where it has a thousand."""
    if allocator._information() is None:
        pytest.skip("the C library does not tell what is used")
    done = subprocess.run(
        [sys.executable, "-c", HEAP], capture_output=True, text=True, timeout=120, check=True
    )
    ours, usual = map(float, done.stdout.split())
    # torch's own activation shows that there would be something to see.
    assert ours < 0.2 < usual


def test_layers_keep_their_hooks_and_weights_and_are_packed_once() -> None:
    found = network()
    weights = copy.deepcopy(found.state_dict())
    seen: list[torch.Tensor] = []
    found[2].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    assert (pack(found), pack(found)) == (2, 0)
    with torch.inference_mode():
        found(torch.ones(4, 12))
    assert [tuple(each.shape) for each in seen] == [(4, 20)]
    assert all(torch.equal(value, weights[name]) for name, value in found.state_dict().items())


def test_other_types_and_kinds_of_layers_are_left_alone() -> None:
    class Own(nn.Linear):
        pass

    assert pack(network().to(torch.bfloat16)) == 0
    assert pack(nn.Sequential(Own(3, 3), nn.Conv1d(3, 3, 1))) == 0


def test_where_it_does_not_pay_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "pays", lambda: False)
    found = network()
    assert pack(found) == 0 and not any("forward" in vars(module) for module in found.modules())


@pytest.mark.parametrize(("usual", "expected"), [(2.0, True), (1.05, False), (0.5, False)])
def test_the_faster_is_found_by_time(monkeypatch: pytest.MonkeyPatch, usual: float, expected: bool) -> None:
    def seconds(compute: object, given: torch.Tensor) -> float:
        return usual if isinstance(compute, nn.Module) else 1.0

    monkeypatch.setattr(packed, "_seconds", seconds)
    assert TIMED.__wrapped__() is expected
