"""Each part that an examination looks at, broken."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import os
import stat
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch

from wsi_deform.doctor import devices, examine, extras, storage, versions
from wsi_deform.doctor.dask_check import dask_findings
from wsi_deform.doctor.devices import device_findings
from wsi_deform.doctor.extras import extra_findings
from wsi_deform.doctor.finding import Finding
from wsi_deform.doctor.picture import check_alike, picture
from wsi_deform.doctor.privacy import Shortener
from wsi_deform.doctor.readers import codec_findings, reader_findings
from wsi_deform.doctor.storage import out_findings, place_findings
from wsi_deform.doctor.versions import lowest_versions, numbers, version_findings
from wsi_deform.slide.image_reader import ImageReader
from wsi_deform.slide.openslide_reader import OpenSlideReader


def by_subject(found) -> dict[str, Finding]:
    return {each.subject: each for each in found}


def wrong(found) -> dict[str, str]:
    return {each.subject: each.status for each in found if each.status != "ok"}


def fails(*_: object, **__: object) -> None:
    raise RuntimeError("codec is not available")


# Versions


def test_versions_are_compared_by_their_numbers():
    assert numbers("2.15.0a1+cu130") == [2, 15]
    assert numbers("2026.3.3") > numbers("2026.3") > numbers("2025.12.99")
    assert numbers("") == []


def test_a_package_that_is_missing_or_too_old_is_a_fault_with_its_remedy(monkeypatch):
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "isal":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2024.1" if name == "tifffile" else real(name)

    stated = ["isal>=1.7", "tifffile>=2025.5.21", "torch>=2.6", 'onnx>=1.17; extra == "onnx"']
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: stated)
    found = by_subject(version_findings())
    assert (found["isal"].status, found["isal"].text) == ("fault", "is missing")
    assert found["isal"].remedy == 'pip install "isal>=1.7"'
    assert found["tifffile"].text == "2024.1 is there, 2025.5.21 or newer is needed"
    assert set(wrong(found.values())) == {"isal", "tifffile"}
    assert lowest_versions("onnx") == {"onnx": "1.17"}


def test_a_program_that_is_not_installed_is_remarked_upon(monkeypatch):
    def requires(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert wrong(version_findings()) == {"needed": "remark"}


# Codecs and readers


def test_a_codec_that_scanners_use_is_a_fault_where_it_is_missing_and_a_rare_one_a_remark(
    tmp_path, monkeypatch
):
    # tifffile keeps a decoder that it has used.
    for codec in (tifffile.COMPRESSION.JPEG2000, tifffile.COMPRESSION.ZSTD):
        monkeypatch.setitem(tifffile.TIFF.DECOMPRESSORS._codecs, codec, fails)
    monkeypatch.setattr(imagecodecs, "jpegls_decode", fails)
    found = by_subject(codec_findings(tmp_path))
    assert wrong(found.values()) == {
        "tiff jpeg2000": "fault",
        "tiff zstd": "remark",
        "dicom jpeg-ls": "remark",
    }
    assert found["dicom jpeg-ls"].text == "RuntimeError: codec is not available"
    assert found["tiff jpeg2000"].remedy == "pip install --force-reinstall imagecodecs"


def test_a_codec_that_decodes_to_other_pixels_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(imagecodecs, "ljpeg_encode", lambda pixels: imagecodecs.jpegls_encode(255 - pixels))
    monkeypatch.setattr(imagecodecs, "jpegsof3_decode", imagecodecs.jpegls_decode)
    found = by_subject(codec_findings(tmp_path))["dicom lossless jpeg"]
    assert (found.status, found.text) == (
        "remark",
        "ValueError: pixels differ by up to 255 of 255 from those that were drawn",
    )
    with pytest.raises(ValueError, match=r"read as \(64, 64\), drawn as \(64, 64, 3\)"):
        check_alike(picture()[..., 0], picture())


def test_readers_fail_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setattr(ImageReader, "read_tile", lambda *_: np.flip(picture(), axis=2))
    monkeypatch.setattr(OpenSlideReader, "read_tile", fails)
    found = by_subject(reader_findings(tmp_path))
    assert set(wrong(found.values())) == {"openslide", "dicom", "picture"}
    assert "pydicom" in found["dicom"].text
    assert found["dicom"].remedy == "pip install --force-reinstall pydicom"
    assert "pixels differ" in found["picture"].text


# Devices


def test_threads_beyond_the_quota_of_a_container_are_remarked_upon(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    found = by_subject(device_findings())
    assert found["threads"].status == "remark"
    assert "1.5 allowed, torch uses 8 threads" in found["threads"].text
    assert "set OMP_NUM_THREADS=1" in found["threads"].remedy
    assert found["memory"].status == "remark"
    assert found["memory"].text.startswith("1.0 GiB allowed")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert devices.allowed_cores() == 8


def test_quotas_of_older_containers_count_too(tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert devices.allowed_cores() == 2


def test_a_driver_whose_gpu_torch_does_not_find_is_remarked_upon(tmp_path, monkeypatch):
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(devices, "NVIDIA", tmp_path / "nvidiactl")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert by_subject(device_findings())["cuda"].text.endswith("but torch was built without CUDA")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = by_subject(device_findings())["cuda"]
    assert (found.status, found.text) == (
        "remark",
        "an NVIDIA driver is there, but torch with CUDA 13.0 finds no GPU",
    )


def test_each_gpu_is_named_and_computes_a_little(monkeypatch):
    asked = []

    def computed(device: str) -> str:
        asked.append(device)
        if device == "cuda:1":
            raise RuntimeError("CUDA error: out of memory")
        return "computes as it should"

    about = SimpleNamespace(name="H200", total_memory=140 << 30)
    monkeypatch.setattr(devices, "_computed", computed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: about)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert (
        by_subject(device_findings())["cuda"].text
        == "0: H200, 140 GiB; CUDA 13.0; computed as the processor does"
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = by_subject(device_findings())["cuda"]
    assert (found.status, found.text) == ("fault", "RuntimeError: CUDA error: out of memory")
    assert asked == ["cpu", "cuda:0", "cpu", "cuda:0", "cuda:1"]


def test_a_device_that_computes_wrong_is_a_fault(monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda image, kernel: torch.zeros(1, 1, 4, 4))
    found = by_subject(device_findings())["cpu"]
    assert (found.status, found.text) == ("fault", "ValueError: a convolution on cpu comes out wrong")


def test_variables_are_named_and_only_numbers_are_said(monkeypatch):
    monkeypatch.setenv("WSI_DEFORM_CACHE_GIB", "4")
    monkeypatch.setenv("WSI_DEFORM_CACHE", "/scratch/dr_smith")
    monkeypatch.setenv("DASK_API_TOKEN", "123")
    text = by_subject(device_findings())["variables"].text
    assert "WSI_DEFORM_CACHE, WSI_DEFORM_CACHE_GIB=4" in text
    assert "smith" not in text
    assert "TOKEN" not in text


# Folders


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_a_fault_for_users(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        found = by_subject(out_findings(tmp_path))
    finally:
        tmp_path.chmod(stat.S_IRWXU)
    assert wrong(found.values()) == {"rights": "fault"}


def test_a_read_only_folder_is_a_fault_and_nothing_more_is_tried(tmp_path, monkeypatch):
    def mkdir(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    (found,) = out_findings(tmp_path)
    assert found.status == "fault"
    assert "Read-only file system" in found.text
    assert found.remedy == "Choose another folder with --out, or ask who may write there."


def test_a_full_disk_is_a_fault(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(file: int) -> None:
        if os.fstat(file).st_size > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    found = by_subject(out_findings(tmp_path))
    assert wrong(found.values()) == {"room": "fault"}
    assert "No space left on device" in found["room"].text
    assert [*tmp_path.iterdir()] == []


def test_little_room_is_a_remark(tmp_path, monkeypatch):
    usage = storage.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: usage._replace(free=1 << 29))
    found = by_subject(out_findings(tmp_path))["room"]
    assert (found.status, found.text) == ("remark", "can be written, 0.5 GiB free, which is little")


def test_out_that_is_a_file_is_a_fault(tmp_path):
    (tmp_path / "out").touch()
    for out in (tmp_path / "out", tmp_path / "out" / "masks"):
        assert wrong(out_findings(out)) == {"rights": "fault"}


def test_a_folder_that_does_not_exist_yet_is_not_made(tmp_path):
    found = by_subject(out_findings(tmp_path / "a" / "b"))
    assert wrong(found.values()) == {}
    assert found["rights"].text.startswith(
        "can be made (the nearest folder above it was tried); new files get"
    )
    assert [*tmp_path.iterdir()] == []


def test_storage_that_copies_instead_of_moving_is_a_fault(tmp_path, monkeypatch):
    def replace(self: Path, target: Path) -> Path:
        target.write_bytes(self.read_bytes())
        self.unlink()
        return target

    monkeypatch.setattr(Path, "replace", replace)
    found = by_subject(out_findings(tmp_path))["moves"]
    assert found.status == "fault"
    assert "a file that is read changes when another one takes its place" in found.text


def test_storage_where_a_file_can_be_made_twice_is_a_fault(tmp_path, monkeypatch):
    real = Path.open

    def opened(self: Path, mode: str = "r", *given: object, **named: object):
        return real(self, mode.replace("x", "w"), *given, **named)

    monkeypatch.setattr(Path, "open", opened)
    found = by_subject(out_findings(tmp_path))["claims"]
    assert (found.status, found.text) == (
        "fault",
        "ValueError: a file that is there can be made a second time",
    )


def test_storage_without_links_or_case_is_remarked_upon(tmp_path, monkeypatch):
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    real = Path.exists
    monkeypatch.setattr(os, "link", unsupported)
    monkeypatch.setattr(Path, "exists", lambda self: self.name == "A" or real(self))
    found = by_subject(out_findings(tmp_path))
    assert wrong(found.values()) == {"links": "remark", "names": "remark"}


def test_attributes_that_show_late_are_remarked_upon_and_those_that_never_do_are_a_fault(
    tmp_path, monkeypatch
):
    real, first = Path.stat, {}
    late_s = 0.4

    def remembered(self: Path, **how: bool) -> os.stat_result:
        """The size of a file as it was a while ago."""
        found = real(self, **how)
        if self.name != "a" or self.parent.name != "attributes":
            return found
        since = first.setdefault(found.st_size, time.monotonic())
        if time.monotonic() - since < late_s:
            return os.stat_result([*found[:6], 0, *found[7:]])
        return found

    monkeypatch.setattr(Path, "stat", remembered)
    found = by_subject(out_findings(tmp_path))
    assert wrong(found.values()) == {"attributes": "remark"}
    assert found["attributes"].text.startswith(("changes show 0.4 s late", "changes show 0.5 s late"))
    monkeypatch.setattr(storage, "PATIENCE_S", 0.1)
    first.clear()
    late_s = 9.0
    assert "does not show within 0.1 s" in by_subject(out_findings(tmp_path))["attributes"].text


def test_a_clock_that_is_off_is_remarked_upon(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.time, "time", lambda: time.time_ns() / 1e9 - 90)
    found = by_subject(out_findings(tmp_path))["clock"]
    assert found.status == "remark"
    assert found.text.endswith("s ahead of this machine's")


def test_a_cache_that_cannot_be_written_is_remarked_upon(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "file" / "cache"))
    found = by_subject(place_findings())
    assert wrong(found.values()) == {"cache": "remark"}
    assert "Set WSI_DEFORM_CACHE to a folder" in found["cache"].remedy


# Extras, dask and the whole


def test_an_extra_that_is_missing_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    found = by_subject(extra_findings(tmp_path))
    assert wrong(found.values()) == {}
    assert found["czi"].text == (
        'not installed; for CZI that OpenSlide does not read: pip install "wsi-deform[czi]"'
    )
    assert [*found] == ["remote", "czi", "onnx", "openvino", "quantise", "pretrained", "sets"]


def test_an_extra_of_which_a_part_is_missing_too_old_or_broken_is_told(tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        extras,
        "find_spec",
        lambda name: None if name == "onnxscript" else real("json") if "onnx" in name else real(name),
    )
    found = by_subject(extra_findings(tmp_path))
    assert (found["onnx"].status, found["onnx"].text) == ("remark", "onnxscript missing; for export to ONNX")
    assert found["onnx"].remedy == 'pip install "wsi-deform[onnx]"'
    monkeypatch.setattr(extras, "lowest_versions", lambda name: {"aiohttp": "99"} if name == "remote" else {})
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setattr(extras, "find_spec", lambda name: real("json"))
    found = by_subject(extra_findings(tmp_path))
    assert "99 or newer is needed for slides at https addresses" in found["remote"].text
    assert found["sets"].status == "fault"


def test_dask_that_cannot_open_a_port_is_a_fault(monkeypatch):
    import distributed

    def refused(**_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(distributed, "LocalCluster", refused)
    found = by_subject(dask_findings())
    assert wrong(found.values()) == {"scheduler": "fault"}
    assert "Permission denied" in found["scheduler"].text


def test_what_breaks_the_looking_itself_is_a_fault_and_all_else_is_looked_at(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    for name in ("device_findings", "reader_findings", "codec_findings", "place_findings"):
        monkeypatch.setattr(examine, name, broken)
    monkeypatch.setattr(
        examine, "dask_findings", lambda: iter([Finding(topic="dask", subject="d", status="ok", text="")])
    )
    monkeypatch.setattr(
        examine,
        "segment_finding",
        lambda folder: Finding(topic="segment", subject="s", status="ok", text=str(folder)),
    )
    found = [*examine.findings(tmp_path)]
    faults = [each.topic for each in found if each.status == "fault"]
    assert faults == ["devices", "places", "codecs", "readers"]
    assert [each.subject for each in found if each.topic in ("dask", "segment")] == ["d", "s"]
    assert "libGL.so.1" in by_subject(found)["devices"].text
    assert str(tmp_path) not in by_subject(found)["s"].text


# Privacy


def test_places_and_names_are_left_out_and_those_of_the_system_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "drsmith")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/drsmith"))
    shorten = Shortener({"OUT": tmp_path / "ward 7", "<cache>": Path("/home/drsmith/.cache/wsi-deform")}).text
    assert shorten(f"'{tmp_path}/ward 7/a.tif': no space") == "'OUT/a.tif': no space"
    assert shorten("/home/drsmith/.cache/wsi-deform/x") == "<cache>/x"
    assert shorten("in /home/drsmith/x, /home/drsmith2/y") == "in ~/x, .../y"
    assert shorten("drsmith may not") == "<user> may not"
    assert shorten("/usr/lib/libjpeg.so, /mnt/lab/P001 smith") == "/usr/lib/libjpeg.so, .../P001 smith"
    assert shorten("https://me:secret@host/a/b?sig=1") == "https://host/a/b"
    assert shorten("1/2 of 3/4, and/or") == "1/2 of 3/4, and/or"
    assert shorten(f"{versions.__file__}:7") == "<wsi-deform>/doctor/versions.py:7"
