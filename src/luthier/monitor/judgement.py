"""What monitoring compares and what it says: the reference of a model, the requests kept, and a judgement.

Plain data. How a judgement is come to lives in `luthier.monitor.judge`, how references and requests are
stored elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from luthier.evaluate.intervals import UNKNOWN, Interval

Kind = Literal["class", "multi", "tags", "number"]
"""A task's `target_kind`."""
Length = Literal["short", "long"]
Of = Literal["classes", "confidence", "output", "outputs", "features", "statistic"]


@dataclass(frozen=True)
class Settings:
    """How requests are judged.

    Attributes:
        short: Newest requests that are judged for sudden change.
        long: Newest requests that are judged for slow change and for harm.
        fewest: Requests below which nothing is judged.
        alpha: False alarms that are accepted, of drift and of harm each, in ``long`` requests in which
            nothing changed, however often one looks.
        tolerance: How far the share of right answers may fall below the tested one before it is harm.
        tolerance_error: For numbers: by which share the mean absolute error may grow before it is harm.
        level: Of intervals.
    """

    short: int = 250
    long: int = 1000
    fewest: int = 50
    alpha: float = 0.01
    tolerance: float = 0.02
    tolerance_error: float = 0.1
    level: float = 0.95


@dataclass(frozen=True)
class Reference:
    """What a model said of its held-out rows, and how right it was: what requests are compared with.

    Rows of ``outputs``, ``features`` and each of ``statistics`` are random samples, of the same rows or of
    others.

    Attributes:
        kind: The task's `target_kind`.
        classes: Names of the outputs, in order.
        outputs: m arrays as `Task.outputs` cuts them, as shipped, with the temperature; a (m, outputs) array
            where all have one shape.
        counts: (classes,) how often each class was answered over all held-out rows; None but for ``class``.
        confidence: (d,) calibrated or not, the probability given to each decision (`Task.decisions`), over
            all held-out rows or a sample of them; empty for numbers.
        right: (d,) bool, whether it was right.
        example: (d,) the row that each decision belongs to.
        confusion: (true, answered) counts over all held-out rows; None but for ``class``.
        errors: (m,) absolute errors, for numbers; empty for other kinds.
        features: (r, width) of what the head read, some hundred rows; None where it is not known.
        statistics: (s,) samples of the numbers that describe inputs, by name.
        measured: (s,) the row, as numbered in ``example``, that each entry of ``statistics`` is of; empty
            where that is not known. With it, accuracy is estimated with regard to what inputs are like.
    """

    kind: Kind
    classes: tuple[str, ...]
    outputs: Any
    counts: np.ndarray | None = None
    confidence: np.ndarray = field(default_factory=lambda: np.empty(0))
    right: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))
    example: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    confusion: np.ndarray | None = None
    errors: np.ndarray = field(default_factory=lambda: np.empty(0))
    features: np.ndarray | None = None
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    measured: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Requests:
    """Answered requests of one version, oldest first: as many as are kept, of which the newest are judged.

    The older ones say when a change began.

    Attributes:
        ids: (n,) of the observations.
        times: (n,) seconds since the epoch.
        outputs: n arrays, or (n, outputs).
        features: (n, width), rows of NaN where one is not known; None where none is.
        statistics: (n,) numbers that describe inputs, by name; NaN where one is not known.
        outcomes: (n,) what labels said since: whether the answer was right, 0 or 1, of several decisions the
            share that was; for numbers the absolute error. NaN where there is no label. None: no labels.
        truths: (n,) the true class, for kind ``class``; -1 where it is not known. None: no labels.
    """

    ids: Any
    times: np.ndarray
    outputs: Any
    features: np.ndarray | None = None
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    outcomes: np.ndarray | None = None
    truths: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.times)

    def at(self, rows: np.ndarray) -> Requests:
        """Those at the given positions."""
        table = isinstance(self.outputs, np.ndarray)
        return Requests(
            [self.ids[i] for i in rows.tolist()],
            self.times[rows],
            self.outputs[rows] if table else [self.outputs[i] for i in rows.tolist()],
            None if self.features is None else self.features[rows],
            {name: values[rows] for name, values in self.statistics.items()},
            None if self.outcomes is None else self.outcomes[rows],
            None if self.truths is None else self.truths[rows],
        )

    def newest(self, count: int) -> Requests:
        """The last ``count`` of them."""
        return self.at(np.arange(max(0, len(self) - count), len(self)))


@dataclass
class Drift:
    """One comparison of requests with the reference.

    Attributes:
        of: What was compared: ``classes`` that were answered, ``confidence``, one ``output``, the
            ``features`` together (``outputs`` where features are not known), or one ``statistic`` of inputs.
        name: Which output or statistic; empty where there is but one.
        length: Which window: ``short`` or ``long``.
        n: Requests compared.
        method: ``chi-squared``, ``Kolmogorov-Smirnov`` or ``maximum mean discrepancy``.
        effect: Size of the difference, 0 for none: total variation of shares, the largest distance of the
            distribution functions, or the discrepancy.
        p: Probability of such a difference by chance.
        corrected: The same, corrected for all comparisons of this look (Holm).
        drifted: Whether it counts as a change, at what this look may spend of ``alpha``.
    """

    of: Of
    name: str
    length: Length
    n: int
    method: str
    effect: float
    p: float
    corrected: float = 1.0
    drifted: bool = False


@dataclass
class Onset:
    """When a change began, and how.

    Attributes:
        began: Seconds since the epoch, of the first request after it; of the oldest one kept, if
            ``before`` is true.
        ended: When it was complete, for ``slow``; of the newest request where it still goes on. ``began``
            for ``sudden``.
        form: ``sudden`` (a step) or ``slow`` (a ramp).
        before: Whether all kept requests came after it.
    """

    began: float
    ended: float
    form: Literal["sudden", "slow"]
    before: bool = False


@dataclass
class Estimate:
    """How right the answers of a window are, estimated without labels or counted from labels.

    Attributes:
        metric: ``accuracy``: the share of right decisions; or ``absolute error``.
        value: On these requests.
        interval: (low, high) of it.
        tested: The same on held-out rows.
        tested_interval: (low, high) of it.
        drop: How much worse than tested; for errors, the growth as a share of the tested one.
        drop_low: Lower end of the one-sided interval of the drop, at what this look may spend.
        n: Requests it is made from.
        method: How, in a few words.
        drop_high: Upper end of the interval of the drop; infinite for an estimate, which cannot deny harm.
    """

    metric: Literal["accuracy", "absolute error"]
    value: float
    interval: Interval
    tested: float
    tested_interval: Interval
    drop: float
    drop_low: float
    n: int
    method: str
    drop_high: float = math.inf


@dataclass
class Prior:
    """The share of a class among requests, by what was answered and how often answers are mistaken.

    Attributes:
        name: The class.
        share: Estimated true share.
        interval: (low, high) of it.
        tested: Its share among held-out rows.
    """

    name: str
    share: float
    interval: Interval
    tested: float


@dataclass
class Break:
    """Where the stream of right and wrong answers changed (ADWIN).

    Attributes:
        time: Seconds since the epoch, of the first labelled request after it.
        before: Mean outcome before.
        after: Mean outcome since.
        n: Labelled requests since.
    """

    time: float
    before: float
    after: float
    n: int


@dataclass
class Explanation:
    """What changed the most, and on whom it shows.

    Attributes:
        statistic: The leading comparison in words, such as ``share of class spam``.
        changed_class: The class whose share moved the most; empty if classes did not drift.
        change: From and to: (reference, requests) share of that class.
        slice: The part of requests on which estimated or counted accuracy fell the most; empty where none
            fell clearly.
        examples: Ids of requests that are the least like the reference, most telling first.
    """

    statistic: str = ""
    changed_class: str = ""
    change: tuple[float, float] = UNKNOWN
    slice: str = ""
    examples: list[str] = field(default_factory=list)


@dataclass
class Judgement:
    """What one look at the newest requests says.

    Attributes:
        n: Requests in the long window.
        start: Seconds since the epoch of its first request; NaN where there is none.
        end: Of its last.
        spent: The part of ``alpha`` that this look may spend.
        drifts: All comparisons, the smallest p value first.
        onset: When the leading change began; None without drift.
        estimate: Accuracy without labels; None where it cannot be estimated, see ``notes``.
        counted: The metric from labels; None without enough of them.
        priors: True class shares; empty where they cannot be estimated.
        break_: A change within the labelled stream.
        harm: Whether the estimated or counted metric is below the tested one, beyond noise and tolerance.
        harm_by: What says so: ``labels`` or ``estimate``; empty without harm.
        explanation: Of drift or harm.
        notes: What could not be judged and why, a sentence each.
    """

    n: int = 0
    start: float = math.nan
    end: float = math.nan
    spent: float = 0.0
    drifts: list[Drift] = field(default_factory=list)
    onset: Onset | None = None
    estimate: Estimate | None = None
    counted: Estimate | None = None
    priors: list[Prior] = field(default_factory=list)
    break_: Break | None = None
    harm: bool = False
    harm_by: Literal["", "labels", "estimate"] = ""
    explanation: Explanation = field(default_factory=Explanation)
    notes: list[str] = field(default_factory=list)

    @property
    def drifted(self) -> bool:
        """Whether any comparison counts as a change."""
        return any(one.drifted for one in self.drifts)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ``drifted`` among them."""
        return {**asdict(self), "drifted": self.drifted}
