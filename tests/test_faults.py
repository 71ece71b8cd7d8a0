"""Whose fault an exception is, told by the place where it was raised."""

from __future__ import annotations

from types import ModuleType

import pytest
import tifffile

from wsi_deform.faults import is_own_fault, own_fault_note, pass_on_own_fault, version_of, with_notes

MISTAKES = {
    AttributeError: "().no_such_name",
    TypeError: "len(3)",
    KeyError: "{}['none']",
    IndexError: "[][0]",
    NameError: "no_such_name",
    ImportError: "__import__('no_such_package')",
    AssertionError: "(_ for _ in ()).throw(AssertionError())",
}


def module(name: str, code: str) -> ModuleType:
    """Lines that run as if they stood in a package of that name."""
    made = ModuleType(name)
    exec(compile(code, f"{name}.py", "exec"), made.__dict__)
    return made


def raised(*packages: str, line: str) -> Exception:
    """What a line raises in the last of some packages, each called by the one before."""
    call = module(f"{packages[-1]}.inner", f"def run():\n    {line}\n").run
    for name in reversed(packages[:-1]):
        outer = module(f"{name}.outer", "def run():\n    return call()\n")
        outer.__dict__["call"] = call
        call = outer.run
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value


@pytest.mark.parametrize(("kind", "line"), MISTAKES.items())
def test_a_mistake_in_our_own_line_is_ours(kind: type[Exception], line: str):
    error = raised("wsi_deform", line=line)
    assert isinstance(error, kind)
    assert is_own_fault(error, "tifffile")


@pytest.mark.parametrize("line", MISTAKES.values())
def test_the_same_raised_by_the_parser_or_what_it_calls_is_the_files(line: str):
    assert not is_own_fault(raised("wsi_deform", "tifffile", line=line), "tifffile")
    assert not is_own_fault(raised("wsi_deform", "zarr", "numcodecs", line=line), "tifffile", "zarr")


def test_what_a_parser_calls_back_in_our_code_is_ours():
    assert is_own_fault(raised("wsi_deform", "tifffile", "wsi_deform", line="[][0]"), "tifffile")
    assert not is_own_fault(
        raised("wsi_deform", "tifffile", "wsi_deform", "tifffile", line="[][0]"), "tifffile"
    )


def test_a_mistake_in_a_library_that_does_not_parse_the_file_is_ours():
    assert is_own_fault(raised("wsi_deform", "numpy", line="len(3)"), "tifffile")
    assert is_own_fault(raised("wsi_deform", "tifffile_of_another_name", line="len(3)"), "tifffile")


@pytest.mark.parametrize("line", ["raise ValueError()", "raise OSError()", "1 / 0", "raise RuntimeError()"])
def test_what_is_no_programming_error_is_the_files_wherever_it_was_raised(line: str):
    assert not is_own_fault(raised("wsi_deform", line=line), "tifffile")


def test_an_own_fault_goes_on_as_what_it_is_with_a_note_that_names_versions():
    error = raised("wsi_deform", line="().get_axes")
    for _ in range(2):  # also through two such handlers
        with pytest.raises(AttributeError, match="'tuple' object has no attribute 'get_axes'") as caught:
            pass_on_own_fault(error, "tifffile")
    note = (
        f"This is a fault of wsi-deform {version_of('wsi-deform')} with tifffile {tifffile.__version__}, not of the "
        "file: please report it with this traceback."
    )
    assert own_fault_note("tifffile") == note
    assert caught.value.__notes__ == [note]
    assert with_notes(caught.value) == f"AttributeError: 'tuple' object has no attribute 'get_axes'; {note}"


def test_a_fault_of_the_file_is_left_to_the_caller():
    error = raised("wsi_deform", "tifffile", line="[][0]")
    pass_on_own_fault(error, "tifffile")
    assert with_notes(error) == "IndexError: list index out of range"
