from __future__ import annotations

from luthier.study.budget import Budget


def test_time_is_counted_over_processes_and_held_back() -> None:
    now = [100.0]
    budget = Budget(60.0, spent=10.0, clock=lambda: now[0])
    assert (budget.spent, budget.left) == (10.0, 50.0)
    now[0] += 20
    budget.reserve = 5.0
    assert (budget.spent, budget.left) == (30.0, 25.0)
    now[0] += 40
    assert budget.left == -15.0
