"""Judges requests against the reference of a model: has the data changed, does it hurt, and why.

Each question's statistics live in a module of their own; here they are asked and put together.
"""

from __future__ import annotations

from luthier.monitor.judgement import Judgement, Reference, Requests, Settings


class Judge:
    """Compares requests with one reference, again and again.

    What depends on the reference alone is computed once, when it is made.

    Args:
        reference: Of the model that answered.
        settings: How to judge.
    """

    def __init__(self, reference: Reference, settings: Settings | None = None) -> None:
        self.reference = reference
        self.settings = settings or Settings()

    def judge(self, requests: Requests, *, new: int | None = None) -> Judgement:
        """Says what changed and whether it hurts.

        Args:
            requests: All that are kept, oldest first; the newest ``settings.long`` are judged, the newest
                ``settings.short`` also by themselves.
            new: How many came since the last look; None for all of them. Looks share out ``alpha`` by it, so
                that looking more often does not raise more false alarms.
        """
        raise NotImplementedError
