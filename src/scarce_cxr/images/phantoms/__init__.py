"""Phantom chest films: procedural radiographs with known findings, for showing the software without any data."""

from scarce_cxr.images.phantoms.collection import write_collection
from scarce_cxr.images.phantoms.film import Box, Film, count_films, draw_film
from scarce_cxr.images.phantoms.findings import FINDINGS

__all__ = ["FINDINGS", "Box", "Film", "count_films", "draw_film", "write_collection"]
