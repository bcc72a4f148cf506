"""A clock that a test turns by hand."""


class HandClock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds
