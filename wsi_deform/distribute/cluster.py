"""A cluster behind a scheduler: how it is reached, and what its workers must have in common with this process."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_deform.distribute.job import SlideJob
from wsi_deform.errors import SlideError
from wsi_deform.faults import with_notes
from wsi_deform.networks.device import device_name
from wsi_deform.provenance import RECORDED_PACKAGES
from wsi_deform.texts import read_json

if TYPE_CHECKING:
    from distributed import Client

# What masks depend on, and what this process and the others talk with.
COMPARED = ("wsi-deform", *RECORDED_PACKAGES, "numba", "zarr", "pydicom", "dask", "distributed")
OF_SCHEDULER = ("dask", "distributed")
MISSING = "missing"
FILE_PAUSE_S = 0.2
SHOWN_WORKERS = 3


def connected(scheduler: str, *, timeout_s: float) -> Client:
    """Connect to a scheduler whose workers, as far as there are any yet, have the versions that this process has.

    Args:
        scheduler: Its address, or the path of the JSON file that it writes (``dask scheduler --scheduler-file``).
        timeout_s: How long to wait for it, and for its file.

    Returns:
        The client, to be closed by the caller.

    Raises:
        SlideError: It cannot be reached, or it or a worker has other versions.

    Convention:
        TLS, and all else about the connection, is what dask's own configuration says.
    """
    from distributed import Client

    address = _address(scheduler, timeout_s)
    try:
        client = Client(address, timeout=timeout_s)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise SlideError(
            f"scheduler {scheduler}: cannot be reached ({error}). Needed the address of a running dask "
            "scheduler, e.g. tcp://10.0.0.5:8786, or the file that it writes with --scheduler-file. Start one with "
            "`dask scheduler`, or use --workers. For tls:// dask's own configuration has the certificates."
        ) from error
    try:
        _refuse_other_versions(client, scheduler)
    except BaseException:
        client.close()
        raise
    return client


def lost(scheduler: str | None) -> SlideError:
    """What is said where the scheduler has gone in mid-batch."""
    named = "of this machine" if scheduler is None else scheduler
    return SlideError(
        f"scheduler {named}: was lost (did it end, or the network?). Slides that are done are kept; those that workers "
        "had when it went may be finished by them or not. Needed the scheduler to the end. Start it and its workers "
        "again and give the same command: it goes on."
    )


def versions_here(also: Iterable[str] = ()) -> dict[str, str]:
    """Name -> version of what is compared; of Python only as far as 3.11.

    Args:
        also: Further packages.
    """
    found = {"python": platform.python_version()}
    for name in (*COMPARED, *also):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = MISSING
    return {name: _comparable(name, each) for name, each in found.items()}


def difference(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What is other there than here, in words; empty where nothing is."""
    return ", ".join(
        f"{name} {found[name]} (here {wanted[name]})"
        for name in wanted
        if name in found and found[name] != wanted[name]
    )


def unfit_workers(client: Client) -> dict[str, str]:
    """The workers that cannot do what this process would, and why, in words; those that are just ending are left out.

    Args:
        client: Connected.

    Returns:
        Address -> what is wrong.
    """
    wanted = versions_here()
    wrong = {}
    for worker, there in client.run(versions_here, on_error="return").items():
        if isinstance(there, OSError):
            continue
        if isinstance(there, BaseException):
            wrong[worker] = f"no wsi-deform that works ({with_notes(there)})"
        elif other := difference(wanted, there):
            wrong[worker] = other
    return wrong


def for_this_worker(job: SlideJob) -> SlideJob:
    """A job as the worker shall do it in whose thread this is called; workers may join at any time.

    Args:
        job: As it was sent; its device may be "auto", and its memory that of a whole worker.

    Returns:
        The job, with a device that is here, and the memory of one of the worker's threads.

    Raises:
        OtherVersionsError: The worker has other versions than the process that sent it.
        ModelError: The device is not here.
    """
    from distributed import get_worker

    worker = get_worker()
    wanted = {name.replace("_", "-"): _comparable(name, str(each)) for name, each in job.versions.items()}
    if other := difference(wanted, versions_here(job.runtime.versions())):
        raise OtherVersionsError(refusal(f"worker {worker.address}", other))
    memory_gib = None if job.memory_gib is None else job.memory_gib / worker.state.nthreads
    return replace(job, device=device_name(job.device), is_isolated=True, memory_gib=memory_gib)


class OtherVersionsError(SlideError):
    """A worker has other versions than the process that it works for: masks could differ from slide to slide."""


def _comparable(name: str, found: str) -> str:
    """A version as far as masks depend on it: torch for GPUs is the same torch, and so is a mended Python."""
    return ".".join(found.split(".")[:2]) if name == "python" else found.partition("+")[0]


def refusal(who: str, other: str) -> str:
    """What is said of someone with other versions."""
    return (
        f"{who}: has {other}. Needed the same versions on all machines, since masks depend on them. Install them from "
        "the same requirements.lock, or start workers in the same environment or container."
    )


def _refuse_other_versions(client: Client, scheduler: str) -> None:
    wanted = versions_here()
    # A scheduler needs nothing but dask.
    about: Mapping[str, Any] = client.get_versions()["scheduler"] or {}
    found = {name: str(about.get("packages", {}).get(name, wanted[name])) for name in OF_SCHEDULER}
    if other := difference(wanted, found):
        raise OtherVersionsError(refusal(f"scheduler {scheduler}", other))
    if wrong := unfit_workers(client):
        more = f" and {len(wrong) - SHOWN_WORKERS} more" if len(wrong) > SHOWN_WORKERS else ""
        workers = ", ".join([*wrong][:SHOWN_WORKERS])
        who = f"scheduler {scheduler}: worker{'s' if len(wrong) > 1 else ''} {workers}{more}"
        raise OtherVersionsError(refusal(who, next(iter(wrong.values()))))


def _address(scheduler: str, timeout_s: float) -> str:
    """The address itself, or what the file of a scheduler says, once it is there."""
    if "://" in scheduler or not re.search(r"\.json$|[/\\]", scheduler):
        return scheduler
    path, deadline = Path(scheduler), time.monotonic() + timeout_s
    while True:
        try:
            return str(read_json(path)["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            # A scheduler that is about to start writes it in a moment.
            if time.monotonic() > deadline:
                raise SlideError(
                    f"scheduler {scheduler}: has no address ({with_notes(error)}). Needed the JSON file that a "
                    "running `dask scheduler --scheduler-file FILE` writes, on storage that this machine sees too."
                ) from error
            time.sleep(FILE_PAUSE_S)
