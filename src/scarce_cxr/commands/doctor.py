"""`scarce doctor`: what this machine offers."""

from pathlib import Path

from scarce_cxr.results import Result, Table


def doctor(folder: Path = Path()) -> Result:
    """Says what this machine offers: processors, memory, GPUs, bf16, image decoders, disk.

    Args:
        folder: Where stores and runs would be written.
    """
    import importlib.metadata
    import os
    import platform
    import shutil

    import torch
    from PIL import features

    from scarce_cxr.errors import ScarceError
    from scarce_cxr.images.dicom.pixels import compressed_syntaxes
    from scarce_cxr.training.devices import multiplies_bf16

    if not folder.is_dir():
        raise ScarceError("a folder", str(folder), "check the path")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    disk = shutil.disk_usage(folder)
    rows = [
        ["Python", platform.python_version()],
        *[[name, importlib.metadata.version(name)] for name in ("torch", "timm", "lightning")],
        ["cores", f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}"],
        ["memory", f"{memory:.0f} GiB"],
        ["disk free", f"{disk.free / 2**30:.0f} of {disk.total / 2**30:.0f} GiB in {folder.resolve()}"],
    ]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            rows.append([f"GPU {index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"])
        rows.append(["bf16 on it", _yes(multiplies_bf16(cuda=True))])
    else:
        rows.append(["GPU", "none: training runs on the processor; use recipes/small"])
        rows.append(["bf16 on the processor", _yes(multiplies_bf16(cuda=False))])
    for decoder, what in (("jpg", "JPEG"), ("zlib", "PNG"), ("jpg_2000", "JPEG 2000"), ("libtiff", "TIFF")):
        rows.append([f"decoder for {what}", _yes(features.check(decoder))])
    syntaxes = list(compressed_syntaxes())
    lacking = [f"{name} needs {package}" for name, package, installed in syntaxes if not installed]
    read = f"{len(syntaxes) - len(lacking)} of {len(syntaxes)} transfer syntaxes"
    rows.append(["compressed DICOM", "; ".join([read, *lacking])])
    return Result([Table("This machine", ["what", "is"], rows)])


def _yes(there: bool) -> str:
    return "yes" if there else "no"
