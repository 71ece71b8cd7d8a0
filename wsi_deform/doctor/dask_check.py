"""dask: a graph on threads, and a scheduler with a worker, which are started within this process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

from wsi_deform.doctor.finding import Finding, tried

TOPIC = "dask"
TIMEOUT_S = 30


def dask_findings() -> Iterator[Finding]:
    """Let dask compute a little on threads, and on a scheduler and a worker that talk over a port of this machine."""
    yield tried(TOPIC, "threads", _threads, remedy="pip install --force-reinstall dask")
    yield tried(
        TOPIC,
        "scheduler",
        _scheduler,
        remedy="Programs must be able to talk over ports of this machine (127.0.0.1) for --workers and --scheduler.",
    )


def _threads() -> str:
    import dask

    parts = [dask.delayed(pow)(number, 2) for number in range(4)]
    (found,) = dask.compute(dask.delayed(sum)(parts), scheduler="threads", num_workers=2)
    return _checked(found)


def _scheduler() -> str:
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            LocalCluster(
                n_workers=1,
                threads_per_worker=1,
                processes=False,
                protocol="tcp://",
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster, timeout=TIMEOUT_S) as client,
        ):
            found = client.submit(sum, client.map(pow, range(4), [2] * 4)).result(timeout=TIMEOUT_S)
    return _checked(found)


def _checked(found: int) -> str:
    if found != 14:
        raise ValueError(f"the sum of the squares of 0 to 3 comes out as {found}")
    return "computes as it should"
