"""`Settings`: what a run can be told, by command line, YAML file or Python; checked here, used elsewhere."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from luthier.errors import LuthierError, SettingError
from luthier.run.duration import parse_budget
from luthier.study.constraints import FORM, parse_constraint

Baseline = Literal["majority", "classical", "probe", "neighbours", "scratch"]
BASELINES: list[Baseline] = ["majority", "classical", "probe", "neighbours", "scratch"]
TABLE = "a table"
"""Stands in ``add`` for rows that came as a Python object."""
Device = Literal["auto", "cpu", "cuda", "mps"]


def _checked_budget(value: Any) -> str:
    parse_budget(value)
    return str(value)


def _as_list(value: Any) -> Any:
    given = [value] if isinstance(value, str | Path) else value
    return [str(one) if isinstance(one, Path) else one for one in given] if isinstance(given, list) else given


def _checked_constraints(value: Any) -> Any:
    given = _as_list(value)
    return [str(parse_constraint(text)) for text in given] if isinstance(given, list | tuple) else given


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


Budget = Annotated[
    str,
    BeforeValidator(_checked_budget),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number", "exclusiveMinimum": 0}]}),
]
Names = Annotated[
    list[str],
    BeforeValidator(_as_list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
_LIMIT = {"type": "string", "pattern": f"^{FORM}$"}
Constraints = Annotated[
    list[str],
    BeforeValidator(_checked_constraints),
    WithJsonSchema({"anyOf": [_LIMIT, {"type": "array", "items": _LIMIT}]}),
]
Text = Annotated[str, BeforeValidator(_as_text)]


class Settings(BaseModel):
    """All settings of one run: immutable, each with a default. Relative paths start at the current folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    # What is learnt.
    data: Text | None = Field(
        None, description="A file (CSV, TSV, JSON lines, Parquet, CoNLL), a folder, or a hub id."
    )
    from_: Text | None = Field(
        None,
        alias="from",
        description="A finished run to continue, or a deployment: its rows, its weights, its recipe.",
    )
    add: Names = Field(
        default_factory=list, description="Files with further labelled rows for a run that is continued."
    )
    task: str | None = Field(None, description="Task by name; None: inferred from the data, and said.")
    target: str | None = Field(
        None, description="Column to predict (short for columns: {target: ...}); None: inferred."
    )
    columns: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="Role to column name(s), e.g. {input: question}; the rest is inferred.",
    )
    group: str | None = Field(
        None, description="Column whose equal values stay in one split, e.g. a patient."
    )
    split_column: str | None = Field(None, description="Column that says train, validation or test.")
    validation: float | None = Field(
        None, gt=0, lt=1, description="Share of training rows set aside to choose by; None: by their number."
    )
    test: float = Field(
        0.2, gt=0, lt=1, description="Share of rows set aside for the test, where none are given."
    )
    drop_leaks: bool = Field(False, description="Drop test rows that also occur in the training rows.")

    # What is searched, and for how long.
    model: Names = Field(
        default_factory=list,
        description="Pre-trained models: folders, hub ids or short names; several are ranked first.",
    )
    budget: Budget = Field("15m", description="Wall-clock time of the run: 15m, 90s, 1h30m, or seconds.")
    trials: int | None = Field(
        None, ge=1, description="Stop after this many trials, or when the budget ends."
    )
    repeats: int | None = Field(
        None,
        ge=1,
        description="Seeds that each finalist is trained on in all, to choose by their mean; 1: no repeats; "
        "None: as many as there is time for.",
    )
    folds: int | None = Field(
        None,
        ge=0,
        description="Folds of training and validation rows that finalists are compared on; 0: none; None: 5 "
        "where fewer than 225 rows are left to choose by.",
    )
    holdouts: int | None = Field(
        None, ge=1, description="Repeated hold-outs, of a fifth of these rows each, instead of folds."
    )
    strategy: str = Field("auto", description="Search strategy by name.")
    objectives: Names = Field(
        default_factory=list,
        description="What is optimised: the task's metric (or score), latency, memory, size; the first one "
        "chooses. Empty: the metric.",
    )
    constraints: Constraints = Field(
        default_factory=list,
        description="Limits that the chosen model keeps to, e.g. 'latency < 20 ms', 'memory < 2 GB', "
        "'size < 100 MB', 'accuracy >= 0.9'.",
    )
    space: str | dict[str, Any] | None = Field(
        None, description="What is varied: a YAML file, or the same written here; None: the default space."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of splits, search and training.")

    # What is kept and compared.
    out: Text | None = Field(None, description="Run folder, new or empty; None: runs/<name>-<time>.")
    name: str | None = Field(None, min_length=1, description="Name of the run; None: the data set's.")
    store: str | None = Field(None, description="Database URL of the study; None: a file in the run folder.")
    keep: int | None = Field(
        None,
        ge=1,
        description="Trials whose checkpoints are kept, the best ones; None: as many as fit 2 GiB, at least "
        "3 and at most 16.",
    )
    ensemble: str = Field(
        "auto",
        description="How trials are combined: none, greedy, stacking, ...; auto: whatever gains more than "
        "chance would, or none.",
    )
    baselines: list[Baseline] = Field(
        default_factory=lambda: list(BASELINES),
        description="What the result is compared with.",
    )
    slices: Names = Field(
        default_factory=list,
        description="Columns whose values the result is told apart by, beside classes and lengths.",
    )

    # Where it runs.
    device: Device = Field("auto", description="Where it trains; auto: a GPU if there is one.")
    threads: int | None = Field(None, ge=1, description="CPU threads; None: one for each usable core.")
    stack: int | None = Field(
        None,
        ge=1,
        description="Trials trained as one network at most; 1: one after the other, and the same to the last "
        "bit each time; None: as many as pay and fit.",
    )

    @property
    def budget_seconds(self) -> float:
        """The budget in seconds."""
        return parse_budget(self.budget)

    @property
    def hints(self) -> dict[str, str | list[str]]:
        """`columns`, with `target` as one of them."""
        return {**self.columns, "target": self.target} if self.target else dict(self.columns)

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Settings:
        """Builds settings from plain values.

        Raises:
            SettingError: A name is unknown, a value is out of its range, or two settings contradict.
        """
        known = {name: field.alias or name for name, field in cls.model_fields.items()}
        for name in values:
            if name not in known and name not in known.values():
                raise _unknown(str(name), sorted(known.values()))
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise _invalid(error) from None
        if settings.add and settings.from_ is None:
            raise SettingError(
                f"add is {', '.join(settings.add)}, but there is no run that these rows are added to.",
                "Name it with --from, or put all rows into one data set.",
            )
        if settings.folds and settings.holdouts:
            raise SettingError(
                f"folds is {settings.folds} and holdouts is {settings.holdouts}, but one is to be chosen by.",
                "Give only one of them.",
            )
        fixed = settings.columns.get("target")
        if settings.target and fixed and fixed != settings.target:
            raise SettingError(
                f"target is {settings.target!r} but columns say that it is {fixed!r}.",
                "Give the target once.",
            )
        return settings

    @classmethod
    def from_file(cls, path: str | Path, overrides: dict[str, Any] | None = None) -> Settings:
        """Reads a YAML file. ``overrides`` win over it; their ``columns`` are added to the file's, by role.

        Raises:
            SettingError: The file cannot be read, is not a mapping, or its values are not settings.
        """
        values = _read_mapping(Path(path))
        overrides = dict(overrides or {})
        if isinstance(values.get("columns"), dict) and "columns" in overrides:
            overrides["columns"] = {**values["columns"], **overrides["columns"]}
        try:
            return cls.parse({**values, **overrides})
        except SettingError as error:
            raise SettingError(f"{path}: {error.message}", error.hint) from None

    @classmethod
    def gather(cls, data: str | Path | None, overrides: dict[str, Any] | None = None) -> Settings:
        """Settings from what ``tune`` was given: data or a settings file (``.yaml``, ``.yml``), and options.

        Raises:
            SettingError: As `parse` and `from_file`.
        """
        if data is not None and Path(data).suffix.lower() in {".yaml", ".yml"}:
            return cls.from_file(data, overrides)
        return cls.parse({"data": data, **(overrides or {})})

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON schema (2020-12) of a settings file."""
        dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        return {**dialect, **cls.model_json_schema(), "title": "Luthier run"}


def _read_mapping(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"Cannot read the settings file {str(path)!r}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingError(f"The settings file {str(path)!r} is not UTF-8 text.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise SettingError(f"The settings file {str(path)!r} is not valid YAML{where}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingError(
            f"The settings file {str(path)!r} holds a {type(values).__name__}, not settings by name.",
            "Write one `name: value` a line; `luthier schema` prints what is known.",
        )
    return values


def _unknown(name: str, known: list[str]) -> SettingError:
    close = difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.6)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known settings: {', '.join(known)}."
    return SettingError(f"Unknown setting {name!r}.", hint)


def _invalid(error: ValidationError) -> LuthierError:
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, LuthierError):
        return cause
    path = ".".join(str(part) for part in first["loc"])
    given = first.get("input")
    shown = given if isinstance(given, str) else json.dumps(given, default=str)
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return SettingError(f"Setting {path!r} cannot be {shown!r}: {reason}.")
