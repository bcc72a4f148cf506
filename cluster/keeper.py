"""The Ray actor that keeps a cluster whose starter has gone: a fleet in a thread of its own.

One that Ray has started again takes over the parts that are there. Knows nothing of what it keeps that fleet.py does not.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future

from cluster.fleet import Fleet, FleetOptions

_log = logging.getLogger(__name__)


class Keeper:
    """Begins at once."""

    def __init__(self, options: FleetOptions) -> None:
        self._options = options
        self._serving: Future[tuple[tuple[str, ...], tuple[str, ...]]] = Future()
        threading.Thread(target=lambda: asyncio.run(self._keep()), name="keeper", daemon=True).start()

    def serving(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Models and endpoints, once they are there. Raises what `Fleet.start` raises."""
        return self._serving.result()

    async def _keep(self) -> None:
        fleet = Fleet(self._options)
        try:
            await fleet.start()
            self._serving.set_result((fleet.models, fleet.endpoints))
            await fleet.watch()
        except BaseException as error:
            if not self._serving.done():
                self._serving.set_exception(error)
            _log.exception("the cluster is kept no more")
            raise
        finally:
            await fleet.stop()
