"""Which workers of a cluster may be given slides: all, until one joins that cannot do them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wsi_deform.distribute.cluster import OtherVersionsError, refusal, unfit_workers

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)


class Crew:
    """The workers of a scheduler, as they come and go.

    Attributes:
        generation: Rises when others may be given slides than before: what no worker has yet is to be given anew.
        allowed: Who may be given slides; None is everybody, as long as nobody was refused.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._refused: dict[str, str] = {}
        self.generation = 0
        self.allowed: list[str] | None = None

    def look(self) -> None:
        """Refuse, by name, workers that joined without this program, or with other versions.

        Raises:
            OtherVersionsError: There are no others.
        """
        unfit = unfit_workers(self._client)
        for worker, why in unfit.items():
            if worker not in self._refused:
                self._refused[worker] = why
                logger.warning("%s It is given no slides.", refusal(f"worker {worker}", why))
        if not self._refused:
            return
        fit = sorted(self._client.nthreads().keys() - self._refused.keys())
        if not fit:
            worker, why = next(iter(self._refused.items()))
            raise OtherVersionsError(refusal(f"worker {worker}", why))
        if fit != self.allowed:
            self.allowed, self.generation = fit, self.generation + 1

    def look_if_changed(self) -> None:
        """Once someone was refused: let those join that came since and can do slides.

        Raises:
            OtherVersionsError: Nobody is left who can.
        """
        if self.allowed is not None:
            known = {*self.allowed, *self._refused}
            if not self._client.nthreads().keys() <= known:
                self.look()
