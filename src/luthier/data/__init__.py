"""Reading, checking and splitting labelled data. Knows tables and files, not tasks or models."""

from __future__ import annotations

from luthier.data.check import check
from luthier.data.dataset import Dataset
from luthier.data.findings import Finding, clean, drop_leaks
from luthier.data.read import read
from luthier.data.split import split

__all__ = ["Dataset", "Finding", "check", "clean", "drop_leaks", "read", "split"]
