"""What `luthier serve NAME` takes for a deployment, and what for a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from rollout_fakes import make

from luthier.deploy.serve.settings import ServeSettings
from luthier.errors import RunError, SettingError


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with the deployment ``reviews``, in a current folder of the test's own."""
    make(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("LUTHIER_REGISTRY", raising=False)
    return tmp_path / "registry"


def test_a_name_is_a_deployments_where_no_folder_has_it(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ServeSettings("reviews").deployment is None
    monkeypatch.setenv("LUTHIER_REGISTRY", str(registry))
    found = ServeSettings("reviews").deployment
    assert found is not None and found.folder == registry / "reviews"
    assert ServeSettings("reviews").model_name == "reviews"
    assert ServeSettings("reviews", name="other").model_name == "other"
    assert ServeSettings("absent").deployment is None
    Path("reviews").mkdir()
    assert ServeSettings("reviews").deployment is None


def test_with_a_registry_it_is_one_in_any_case(registry: Path) -> None:
    Path("reviews").mkdir()
    found = ServeSettings("reviews", registry=str(registry)).deployment
    assert found is not None and found.state.full == 1
    absent = ServeSettings("absent", registry=str(registry)).deployment
    with pytest.raises(RunError, match="no deployment 'absent'"):
        _ = absent and absent.state
    with pytest.raises(SettingError, match="not a name of a deployment"):
        _ = ServeSettings("a/b", registry=str(registry)).deployment


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"probation": -1}, "--probation cannot be -1"),
        ({"probation_errors": 1.5}, "--probation-errors cannot be 1.5"),
        ({"probation_slower": 0.5}, "--probation-slower cannot be 0.5"),
    ],
)
def test_limits_of_a_probation_are_possible_ones(
    registry: Path, settings: dict[str, float], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        ServeSettings("reviews", registry=str(registry), **settings).check()  # type: ignore[arg-type]


def test_the_limits_of_a_probation_are_those_that_were_set(registry: Path) -> None:
    from luthier.deploy.serve.metrics import Metrics
    from luthier.deploy.serve.rollout import Rollout
    from luthier.deploy.serve.server import open_answers

    wanted = ServeSettings(
        "reviews", registry=str(registry), probation=60, probation_errors=0.1, probation_slower=3
    )
    opened = open_answers(wanted, Metrics())
    assert isinstance(opened, Rollout)
    limits = opened.settings.limits
    assert (limits.seconds, limits.errors, limits.slower) == (60, 0.1, 3)
