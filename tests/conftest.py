"""What several test folders share."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forked, serve_spawned, spawned_anew

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # Processes of tests share the cores; what they import and start reads this once, so it is said before.
    threads = max(1, len(os.sched_getaffinity(0)) // int(workers)) if hasattr(os, "sched_getaffinity") else 1
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and programs that tests interrupt would never know.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from wsi_deform.annotation.raster import LABEL_CACHE
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.slide.tiff.strips import STRIP_CACHE

serve_spawned()


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sidecar pyramids that tests build stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSI_DEFORM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_limits() -> Iterator[None]:
    """What a test limits memory to is not what the next one works with."""
    caches = (TILE_CACHE, STRIP_CACHE, LABEL_CACHE)
    limits = [cache.limit_bytes for cache in caches]
    yield
    for cache, limit in zip(caches, limits, strict=True):
        cache.set_limit(limit)


@pytest.fixture(autouse=True)
def own_talk() -> Iterator[None]:
    """A command that was told to be quiet does not silence the next test, which may call a function behind it."""
    level = logging.getLogger().level
    yield
    # Most tests never load it.
    if console := sys.modules.get("wsi_deform.cli.console"):
        console.TALK.quiet = console.TALK.verbose = console.TALK.debug = False
    logging.getLogger().setLevel(level)


@pytest.fixture
def forked() -> Iterator[Callable[..., Forked]]:
    """Starts programs (``Forked``); what a test leaves running is killed."""
    started: list[Forked] = []

    def start(module: str, *arguments: object, **options: Any) -> Forked:
        started.append(Forked(module, *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def real_spawn() -> Iterator[None]:
    """Processes that this one spawns begin as they do without tests."""
    with spawned_anew():
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real slides and labelled tissue, read in place; tests that need it skip without it."""
    named = os.environ.get("WSI_DEFORM_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real slides not found at {folder}; set WSI_DEFORM_DATA to run this test")
    return folder
