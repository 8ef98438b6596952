"""One small module a command; each returns a `Result` and prints nothing."""
