"""What a few labels buy: fits from a handful of films, scored on films of other patients."""
