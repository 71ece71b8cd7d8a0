"""Which plug-ins are installed, and whether they load."""

from __future__ import annotations

from collections.abc import Iterator

from wsi_deform.doctor.finding import Finding
from wsi_deform.plugins import load_plugins

TOPIC = "plug-ins"


def plugin_findings() -> Iterator[Finding]:
    """Run each plug-in, as an unknown name does."""
    plugins = load_plugins()
    if not plugins:
        yield Finding(topic=TOPIC, subject="installed", status="ok", text="none")
    for each in plugins:
        said = f"of {each.package} {each.version}".strip() + f", {each.target}"
        yield Finding(
            topic=TOPIC,
            subject=each.name,
            status="fault" if each.problem else "ok",
            text=f"{said}: {each.problem or 'loads'}",
            remedy=f"Mend it, or leave it out: pip uninstall {each.package}" if each.problem else "",
        )
