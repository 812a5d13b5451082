from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from luthier.engine.cost import Cost, relative_cost
from luthier.recipe import Recipe

seconds = st.floats(0, 1e4)


@given(seconds, seconds, seconds, st.integers(1, 100))
def test_what_fits_fits(once: float, each: float, left: float, wanted: int) -> None:
    cost = Cost(once, each)
    epochs = cost.epochs_within(left, wanted)
    assert 0 <= epochs <= wanted
    if epochs:
        assert cost.total(epochs) <= left * (1 + 1e-9)
    if epochs < wanted and each > 0:
        assert cost.total(epochs + 1) > left * (1 - 1e-9)


def test_less_training_costs_less() -> None:
    def cost(**settings: object) -> float:
        return relative_cost(Recipe.parse({"model": "m"} | settings), blocks=6, native_size=224)

    depths = [cost(adaptation="probe"), *(cost(adaptation="last_k", last_k=k) for k in range(1, 7))]
    assert depths == sorted(depths)
    assert depths[-1] == cost(adaptation="full")
    assert cost(adaptation="lora") < cost(adaptation="full")
    assert cost(image_size=112) == cost() / 4
    assert cost(gradient_checkpointing=True) > cost()
