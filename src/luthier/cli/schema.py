"""``luthier schema``: the JSON schema of a settings file."""

from __future__ import annotations


def schema() -> None:
    """Print the JSON schema of a settings file."""
    from luthier.cli.output import print_json
    from luthier.run.settings import Settings

    print_json(Settings.json_schema(), indent=2)


VERB = schema
