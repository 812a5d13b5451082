"""``luthier models``: ranks pre-trained models on a data set, before any of them is fine-tuned."""

from __future__ import annotations

from luthier.cli import options as o


def models(
    data: o.Data,
    model: o.Model = None,
    task: o.Task = None,
    target: o.Target = None,
    column: o.Column = None,
    group: o.Group = None,
    split_column: o.SplitColumn = None,
    seed: o.Seed = None,
    device: o.Device = None,
    threads: o.Threads = None,
    as_json: o.AsJson = False,
) -> None:
    """Rank pre-trained models on DATA, in seconds each.

    By a probe on frozen features, and by LogME.
    """
    settings = o.gather(
        data, column, model=model, task=task, target=target, group=group, split_column=split_column,
        seed=seed, device=device, threads=threads,
    )  # fmt: skip
    from luthier.cli.output import decimal, print_json, print_table
    from luthier.run.inspect import rank

    rows = rank(settings)
    if as_json:
        print_json(rows, indent=2)
        return
    print_table(
        ["model", "parameters", "probe", "LogME", "seconds"],
        [
            [
                row["model"],
                f"{row['parameters']:,}",
                decimal(row["probe"]),
                decimal(row["logme"]),
                decimal(row["seconds"], 1),
            ]
            for row in rows
        ],
    )


VERB = models
