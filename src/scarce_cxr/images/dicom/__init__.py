"""DICOM files: what a header says, and the film as it is meant to be shown.

Nothing here trusts a file. Lengths, sizes and depths may be damaged or hostile: each is held against a limit before
memory is taken for it. And no reason, warning or log line repeats a text of the header.
"""

from scarce_cxr.images.dicom.film import read_film
from scarce_cxr.images.dicom.header import Header, read_header

__all__ = ["Header", "read_film", "read_header"]
