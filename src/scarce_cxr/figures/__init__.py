"""Arrays in, matplotlib figures out. Imports no other room."""
