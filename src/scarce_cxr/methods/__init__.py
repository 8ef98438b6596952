"""One file a method, in its paper's order."""
