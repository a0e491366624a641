"""What the demo says when it cannot go on."""


class DemoFailed(Exception):
    """One sentence for whoever watches."""
