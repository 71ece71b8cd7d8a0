"""The whole examination, one finding after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from wsi_deform.doctor.dask_check import dask_findings
from wsi_deform.doctor.devices import device_findings
from wsi_deform.doctor.extras import extra_findings
from wsi_deform.doctor.finding import Finding, tried
from wsi_deform.doctor.installed_plugins import plugin_findings
from wsi_deform.doctor.privacy import Shortener
from wsi_deform.doctor.readers import codec_findings, reader_findings
from wsi_deform.doctor.runtimes import runtime_findings
from wsi_deform.doctor.storage import out_findings, place_findings
from wsi_deform.doctor.trial import segment_finding
from wsi_deform.doctor.versions import version_findings
from wsi_deform.faults import with_notes


def findings(out: Path | None = None) -> Iterator[Finding]:
    """Look at everything that the program stands on, without a slide or a model of the user.

    Args:
        out: A folder for masks that shall be looked at too.

    Yields:
        What was found, as it is found, in words that can be shown to anybody.

    Convention:
        Where something is broken all else is looked at nevertheless. All that is written is removed again, but for
        which runtime is the fastest, which `segment` reads.
    """
    shorten = Shortener(({} if out is None else {"OUT": out}) | _cache())
    with ExitStack() as stack:
        for found in _all(out, stack):
            yield shorten.finding(found)


def _all(out: Path | None, stack: ExitStack) -> Iterator[Finding]:
    yield from _whole("versions", version_findings)
    yield from _whole("devices", device_findings)
    yield from _whole("places", place_findings)
    if out is not None:
        yield from _whole("out", lambda: out_findings(out))
    made = tried("places", "drawn files", lambda: stack.enter_context(_temporary()))
    if made.status == "ok":
        folder = Path(made.text)
        yield from _whole("codecs", lambda: codec_findings(_new(folder / "codecs")))
        yield from _whole("readers", lambda: reader_findings(_new(folder / "readers")))
        yield from _whole("extras", lambda: extra_findings(_new(folder / "extras")))
    else:
        yield made
    yield from _whole("plug-ins", plugin_findings)
    yield from _whole("runtimes", runtime_findings)
    yield from _whole("dask", dask_findings)
    if made.status == "ok":
        yield segment_finding(_new(folder / "segment"))


def _whole(topic: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """All of a topic; where looking itself breaks down, that is a finding."""
    try:
        yield from look()
    except Exception as error:  # noqa: BLE001  whatever is broken here is what is looked for
        yield Finding(topic=topic, subject=topic, status="fault", text=with_notes(error))


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="doctor-", ignore_cleanup_errors=True)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _cache() -> dict[str, Path]:
    try:
        from wsi_deform.slide.levels.cache_folder import CACHE
    except ImportError:
        return {}
    return {"<cache>": CACHE.folder}
