"""From raw pictures to a prepared store."""
