"""What a server records of its answers: a recorder, its gauges in the metrics, and the alarms that monitoring
left in the records. Who judges them is not here.
"""

from __future__ import annotations

from dataclasses import dataclass

from luthier.deploy.serve.metrics import Metrics
from luthier.deploy.serve.settings import ServeSettings
from luthier.monitor.gauges import Gauges
from luthier.monitor.recorder import QueueRecorder, open_recorder


@dataclass(frozen=True)
class Recording:
    """The records of one server process.

    Attributes:
        recorder: Takes observations.
        gauges: Read what monitoring left.
    """

    recorder: QueueRecorder
    gauges: Gauges

    def alarms(self, version: str) -> list[str]:
        """What monitoring has to complain of at present of a version of the model."""
        found = version in self.gauges.alarms()
        return ["its answers are less often right than it was tested, by luthier monitor"] if found else []

    def close(self) -> None:
        """Writes what was taken."""
        self.recorder.close()


def open_recording(settings: ServeSettings, metrics: Metrics) -> Recording:
    """The recording that was asked for, with its gauges in the metrics.

    Raises:
        LuthierError: The records' URL is none, or their folder cannot be made.
    """
    where = settings.record or ""
    recorder = open_recorder(
        where, model=settings.model_name, keep_inputs=settings.keep_inputs, share=settings.record_share
    )
    deployment = settings.deployment
    # A canary and a shadow are looked at, too; the metrics tell of what answers most.
    charge = None if deployment is None else lambda: str(deployment.state.full)
    gauges = Gauges(where, settings.model_name, recorder, charge)
    metrics.add(gauges)
    return Recording(recorder, gauges)
