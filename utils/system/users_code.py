"""What is said where code of the user's own does not do what it should."""


class UsersCodeError(ValueError):
    """Code of the user's own fails, or gives something that cannot be used; the message is one sentence.

    Attributes:
        saved: whether a checkpoint was saved then.
    """

    saved = False
