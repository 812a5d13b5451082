"""A search and its last round carried out, and what it then has in its store."""

from __future__ import annotations

from typing import Any

from study_engine import SPACE

from luthier.run.finalists import Finalists
from luthier.study.study import Finished, Study


def last_round(study: Study, repeats: int | None = 3, rest: float = 0.0, **options: Any) -> Finalists:
    said: list[str] = options.pop("said", [])
    return Finalists(
        study, study.engine, repeats=repeats, groups=options.pop("groups", None), rest=lambda best: rest,
        typical=SPACE.default(), seed=0, say=said.append,
    )  # fmt: skip


def carry_out(study: Study, repeats: int | None = 3, **options: Any) -> tuple[Finalists, Finished]:
    """The search and its last round."""
    rounds = last_round(study, repeats, **options)
    study.run(rounds.hold_back)
    rounds.repeat()
    chosen = rounds.choose()
    assert chosen is not None
    return rounds, chosen


def rows(study: Study) -> list[dict[Any, Any]]:
    return study.store.trials(study.run_id).to_dict("records")


def repeated(study: Study) -> list[int]:
    """Which trial each repeat repeats, by their numbers."""
    return [int(one) for one in study.store.trials(study.run_id)["repeats"].dropna()]
