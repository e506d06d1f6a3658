"""What is raised for levels that only flatland-rl itself can play."""


class UnsupportedLevel(ValueError):
    """The environment needs something that ``CompiledSimulator`` cannot do; the message is one sentence saying what."""
