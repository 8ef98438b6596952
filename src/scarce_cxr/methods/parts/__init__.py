"""Pieces that methods may share."""
