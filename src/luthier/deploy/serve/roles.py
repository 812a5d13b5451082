"""`Roles`: which loaded version answers which request. How they got there is `rollout`'s affair."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.deploy.serve.base import Refused
from luthier.deploy.serve.held import Held, drawn


@dataclass(frozen=True)
class Roles:
    """Who answers what at present; replaced as a whole.

    Attributes:
        full: In full charge.
        canary: Answers a share, or None.
        percent: The share.
        shadow: Is asked in the background, or None.
    """

    full: Held
    canary: Held | None = None
    percent: float = 0.0
    shadow: Held | None = None

    @property
    def here(self) -> dict[str, Held]:
        """Versions that may be asked by name: those in charge, and the shadow."""
        found = {held.number: held for held in (self.full, self.canary, self.shadow) if held is not None}
        return {str(number): held for number, held in sorted(found.items())}

    @property
    def busy(self) -> bool:
        """Whether a version in charge is answering."""
        return self.full.busy or (self.canary is not None and self.canary.busy)

    def choose(self, name: str, request: str, version: str | None) -> Held:
        """The version that answers a request.

        Args:
            name: Of the deployment.
            request: The request's id.
            version: That was asked for; None: whichever is in charge.

        Raises:
            Refused: There is no such version here.
        """
        if version is not None:
            here = self.here
            if version not in here:
                raise Refused(
                    404, "no_version", f"There is no such version here; there is {', '.join(here)}."
                )
            return here[version]
        canary = self.canary
        if canary is not None and drawn(name, canary.number, request, self.percent):
            return canary
        return self.full

    def gauges(self) -> dict[str, float]:
        """Who is in charge, as `luthier.deploy.serve.metrics.Metrics.add` takes it; 0 for nobody."""
        return {
            "version_full": float(self.full.number),
            "version_canary": float(self.canary.number) if self.canary else 0.0,
            "canary_percent": self.percent,
            "version_shadow": float(self.shadow.number) if self.shadow else 0.0,
        }
