"""``luthier tune``: the main job. Gathers settings, shows progress, and prints what came out."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from luthier.cli import options as o
from luthier.errors import SettingError


def tune(
    data: o.OptionalData = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Continue a finished run, or a deployment by name: its rows, its weights, its recipe first. "
            "Takes the place of DATA.",
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            metavar="FILE",
            help="Further labelled rows for the run that is continued; repeatable.",
        ),
    ] = None,
    task: o.Task = None,
    target: o.Target = None,
    column: o.Column = None,
    group: o.Group = None,
    split_column: o.SplitColumn = None,
    model: o.Model = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", "-b", metavar="TIME", help="Wall-clock time: 15m (the default), 90s, 1h30m."
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Stop after this many trials.")] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="Seeds of each finalist in all; 1: none is repeated; by time if not given."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Cross-validate finalists on this many folds; 0: never; if not given 5 where rows are few."
        ),
    ] = None,
    holdouts: Annotated[
        int | None, typer.Option(help="Repeated hold-outs of a fifth of the rows instead of folds.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="Search strategy: auto (the default), random, grid, hyperband, bayesian, evolution, "
            "population, optuna."
        ),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Optimise the task's metric (or score), latency, memory or size; repeatable, the first "
            "one chooses.",
        ),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help="What the model must keep to, such as 'latency < 20 ms', 'size < 100 MB' or "
            "'accuracy >= 0.9'; repeatable.",
        ),
    ] = None,
    space: Annotated[str | None, typer.Option(help="YAML file with what is varied.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Run folder, new or empty; runs/NAME-TIME if not given.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; the data set's if not given.")] = None,
    seed: o.Seed = None,
    validation: o.Validation = None,
    test: o.Test = None,
    drop_leaks: o.DropLeaks = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Compare with majority, classical, probe, neighbours or scratch; repeatable; all if not "
            "given.",
        ),
    ] = None,
    slice_: o.Slice = None,
    keep: Annotated[
        int | None,
        typer.Option(help="Trials whose checkpoints are kept; as many as fit 2 GiB, 3 to 16, if not given."),
    ] = None,
    ensemble: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How trials are combined: none, greedy, stacking; auto (the default) ships one only "
            "where it gains more than chance would.",
        ),
    ] = None,
    store: Annotated[str | None, typer.Option(help="Database URL of the study.")] = None,
    device: o.Device = None,
    threads: o.Threads = None,
    stack: o.Stack = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but the result.")] = False,
) -> None:
    """Find, train and prove the best model for DATA.

    With --from RUN it goes on from a finished run instead, with the rows of --add FILE beside its own.
    Ctrl-C ends the search early and still leaves the best model so far; a second one aborts.
    """
    started = time.monotonic()
    settings = o.gather(
        data, column, from_=from_, add=add, task=task, target=target, group=group, split_column=split_column,
        model=model, budget=budget, trials=trials, repeats=repeats, folds=folds, holdouts=holdouts,
        strategy=strategy, space=space, out=out, name=name, seed=seed, validation=validation, test=test,
        drop_leaks=drop_leaks, baselines=baseline, slices=slice_, keep=keep, ensemble=ensemble, store=store,
        objectives=objective, constraints=constraint, device=device, threads=threads, stack=stack,
    )  # fmt: skip
    if settings.data is None and settings.from_ is None:
        raise SettingError(
            "No data was given.", "Name a file or folder, luthier tune DATA, or a run to continue: --from RUN"
        )
    from luthier.cli.output import print_result
    from luthier.cli.progress import showing
    from luthier.run.tune import tune as run

    with showing(quiet) as progress:
        result = run(settings, progress=progress, spent=time.monotonic() - started)
    print_result(result)


VERB = tune
