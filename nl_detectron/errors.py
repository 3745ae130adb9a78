"""The one error whose text is all that its reader needs."""


class UsageError(ValueError):
    """Something the user can put right: programs print its text and stop."""
