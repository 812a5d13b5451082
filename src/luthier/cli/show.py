"""``luthier show``: one finished run, as it was printed when it ended."""

from __future__ import annotations

from luthier.cli import options as o


def show(run: o.Run, as_json: o.AsJson = False) -> None:
    """Show a run: its result, the baselines beside it, its files."""
    from luthier.cli.output import print_json, print_result
    from luthier.run.result import Result

    result = Result.load(run)
    if as_json:
        print_json(result.summary(), indent=2)
    else:
        print_result(result)


VERB = show
