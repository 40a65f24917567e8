"""What can go wrong with access, apart, so that a command that names it loads nothing else."""


class AccessError(Exception):
    """The access cannot be set up. The message is one line that says how to correct that."""
