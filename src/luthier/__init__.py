"""Luthier: fine-tuning, whole. The public names, each imported only when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.errors import LuthierError
    from luthier.estimators.classifier import FineTunedClassifier
    from luthier.estimators.regressor import FineTunedRegressor
    from luthier.recipe import Recipe
    from luthier.run.api import export, load, resume, tune, verify
    from luthier.run.deployments import deploy_model, deployments, promote, rollback
    from luthier.run.result import Result
    from luthier.run.settings import Settings
    from luthier.space import Space

__version__ = "0.1.0"

__all__ = [
    "FineTunedClassifier", "FineTunedRegressor", "LuthierError", "Recipe", "Result", "Settings", "Space",
    "__version__", "deploy_model", "deployments", "export", "load", "promote", "resume", "rollback", "tune",
    "verify",
]  # fmt: skip

_HOME = {
    "FineTunedClassifier": "luthier.estimators.classifier",
    "FineTunedRegressor": "luthier.estimators.regressor",
    "LuthierError": "luthier.errors",
    "Recipe": "luthier.recipe",
    "Result": "luthier.run.result",
    "Settings": "luthier.run.settings",
    "Space": "luthier.space",
    "deploy_model": "luthier.run.deployments",
    "deployments": "luthier.run.deployments",
    "export": "luthier.run.api",
    "load": "luthier.run.api",
    "promote": "luthier.run.deployments",
    "resume": "luthier.run.api",
    "rollback": "luthier.run.deployments",
    "tune": "luthier.run.api",
    "verify": "luthier.run.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'luthier' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
