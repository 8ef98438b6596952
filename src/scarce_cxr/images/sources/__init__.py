"""Where collections keep their films and labels: one small class each, which lists and reads no pixel."""

from scarce_cxr.images.sources.folder import FolderSource
from scarce_cxr.images.sources.nih import NihSource
from scarce_cxr.images.sources.records import Box, Listing, Record, Source

__all__ = ["Box", "FolderSource", "Listing", "NihSource", "Record", "Source"]
