"""Settings from files, options and Python: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import SettingError
from luthier.run.duration import format_duration, new_budget, parse_budget
from luthier.run.settings import Settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15m", 900),
        ("90s", 90),
        ("1h30m", 5400),
        ("2h", 7200),
        ("1h 30m", 5400),
        ("1d", 86400),
        (".5h", 1800),
        ("45", 45),
        (45, 45),
        (0.5, 0.5),
        ("5 min", 300),
        ("2H", 7200),
    ],
)
def test_a_budget_is_read_as_people_write_it(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize(
    "text", ["soon", "", "m", "15x", "30m1h", "0", "-5m", "0s", "nan", "inf", True, None, float("inf")]
)
def test_anything_else_is_refused_with_what_was_expected(text):
    with pytest.raises(SettingError) as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value) and "15m, 90s, 1h30m" in str(caught.value)


@given(st.integers(1, 10**6))
def test_a_shown_length_of_time_reads_back(seconds):
    assert parse_budget(format_duration(seconds)) == seconds


def test_a_budget_can_be_added_to():
    assert new_budget("+10m", 900) == 1500
    assert new_budget("10m", 900) == 600
    with pytest.raises(SettingError):
        new_budget("+soon", 900)


def test_defaults():
    settings = Settings()
    assert settings.budget_seconds == 900 and settings.strategy == "auto" and settings.keep is None
    assert (
        settings.baselines == ["majority", "classical", "probe", "neighbours", "scratch"]
        and settings.hints == {}
    )


def test_one_model_may_be_written_without_a_list():
    assert Settings.parse({"model": "minilm"}).model == ["minilm"]


def test_constraints_are_kept_as_they_are_read():
    given = ["Latency<20ms", "size <= 1e2 mb", "accuracy>=.9"]
    kept = Settings.parse({"constraints": given}).constraints
    assert kept == ["latency < 20 ms", "size <= 100 MB", "accuracy >= 0.9"]
    assert Settings.parse({"constraints": "latency < 20 ms"}).constraints == ["latency < 20 ms"]


def test_target_is_one_of_the_columns():
    settings = Settings.parse({"target": "kind", "columns": {"input": ["title", "body"]}})
    assert settings.hints == {"input": ["title", "body"], "target": "kind"}
    with pytest.raises(SettingError, match="target is 'a' but columns say that it is 'b'"):
        Settings.parse({"target": "a", "columns": {"target": "b"}})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"modle": "x"}, ["'modle'", "Did you mean 'model'"]),
        ({"split-column": "x"}, ["Did you mean 'split_column'"]),
        ({"zzz": 1}, ["'zzz'", "Known settings", "budget"]),
        ({"budget": "soon"}, ["'soon'", "1h30m"]),
        ({"trials": 0}, ["'trials'", "0"]),
        ({"repeats": 0}, ["'repeats'", "0"]),
        ({"device": "tpu"}, ["'device'", "tpu", "cuda"]),
        ({"test": 1.0}, ["'test'", "1.0"]),
        ({"seed": -1}, ["'seed'"]),
        ({"baselines": ["luck"]}, ["baselines.0", "luck", "majority"]),
        ({"constraints": ["latency < 20"]}, ["'latency < 20'", "has no unit"]),
        ({"constraints": 3}, ["'constraints'", "3"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(values, words):
    with pytest.raises(SettingError) as caught:
        Settings.parse(values)
    for word in words:
        assert word in str(caught.value)


def test_a_file_is_overridden_by_options(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("data: a.csv\nbudget: 2h\nmodel: minilm\ncolumns: {input: text, target: label}\n")
    settings = Settings.gather(path, {"budget": "5m", "columns": {"target": "kind"}})
    assert (settings.data, settings.budget, settings.model) == ("a.csv", "5m", ["minilm"])
    assert settings.columns == {"input": "text", "target": "kind"}


def test_an_empty_file_is_all_defaults(tmp_path):
    path = tmp_path / "run.yml"
    path.write_text("")
    assert Settings.from_file(path) == Settings()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"- a\n- b\n", "holds a list"),
        (b"budget: [1\n", "not valid YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"buget: 5m\n", "Did you mean 'budget'"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, words):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=words) as caught:
        Settings.from_file(path)
    assert "run.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"absent\.yaml.*No such file"):
        Settings.gather(tmp_path / "absent.yaml")


def test_every_setting_is_described_in_the_schema():
    schema = Settings.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {field.alias or name for name, field in Settings.model_fields.items()}
    assert all(entry.get("description") for entry in schema["properties"].values())


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "budget: 15m",
        "budget: 900",
        "model: minilm",
        "model: [a, b]",
        "space: {learning_rate: {low: 1, high: 2}}",
        "modle: x",
        "trials: 0",
        "device: tpu",
        "columns: 3",
        "budget: 0",
        "baselines: [luck]",
        "baselines: []",
        "objectives: accuracy",
        "objectives: [accuracy, latency]",
        "objectives: 3",
        "constraints: latency < 20 ms",
        "constraints: [latency < 20 ms, accuracy >= 0.9]",
        "constraints: [latency is 20 ms]",
        "constraints: 3",
    ],
)
def test_schema_and_settings_agree(text):
    values = yaml.safe_load(text)
    accepted = not list(jsonschema.Draft202012Validator(Settings.json_schema()).iter_errors(values))
    try:
        Settings.parse(values)
    except SettingError:
        assert not accepted
    else:
        assert accepted


def test_settings_come_back_from_their_own_record():
    settings = Settings.parse({"data": "x.csv", "model": ["a"], "space": {"l1": [0.0, 0.1]}, "trials": 3})
    assert Settings.parse(settings.model_dump(mode="json")) == settings
