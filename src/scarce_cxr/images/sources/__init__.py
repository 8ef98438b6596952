"""Where collections keep their films and labels: one small class each, which lists and reads no pixel."""

from scarce_cxr.images.sources.chexpert import CheXpertSource
from scarce_cxr.images.sources.common import CommonNames
from scarce_cxr.images.sources.dicom import DicomSource
from scarce_cxr.images.sources.folder import FolderSource
from scarce_cxr.images.sources.kinds import recognise
from scarce_cxr.images.sources.mimic import MimicSource
from scarce_cxr.images.sources.montgomery import MontgomerySource
from scarce_cxr.images.sources.nih import NihSource
from scarce_cxr.images.sources.padchest import PadChestSource
from scarce_cxr.images.sources.records import Box, Listing, Record, Source, list_files
from scarce_cxr.images.sources.rsna import RsnaSource
from scarce_cxr.images.sources.shenzhen import ShenzhenSource
from scarce_cxr.images.sources.siim import SiimSource
from scarce_cxr.images.sources.vindr import VinDrSource

__all__ = [
    "SOURCES",
    "Box",
    "CheXpertSource",
    "CommonNames",
    "DicomSource",
    "FolderSource",
    "Listing",
    "MimicSource",
    "MontgomerySource",
    "NihSource",
    "PadChestSource",
    "Record",
    "RsnaSource",
    "ShenzhenSource",
    "SiimSource",
    "Source",
    "VinDrSource",
    "list_files",
    "recognise",
]

SOURCES = {
    source.name: source
    for source in (
        NihSource,
        PadChestSource,
        CheXpertSource,
        MimicSource,
        VinDrSource,
        RsnaSource,
        SiimSource,
        MontgomerySource,
        ShenzhenSource,
        DicomSource,
        FolderSource,
    )
}
