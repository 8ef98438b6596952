"""Errors that say what was expected, what came instead, and how to mend it."""


class ScarceError(Exception):
    """A mistake that the user can mend: the command line prints it as one line and leaves with code 2.

    Args:
        expected: what should have been there, e.g. "an image size that 32 divides".
        got: what was there, with its value, shape or path, e.g. "views.size = 100".
        mend: what to do about it, e.g. "choose 96 or 128".
    """

    def __init__(self, expected: str, got: str, mend: str) -> None:
        self.expected, self.got, self.mend = expected, got, mend
        super().__init__(f"expected {expected}, but got {got}: {mend}")

    def __reduce__(self) -> tuple:
        # The default would rebuild it from the joined message alone, which breaks its way back from a worker process.
        return type(self), (self.expected, self.got, self.mend)
