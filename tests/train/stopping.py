"""A watcher that stops a training."""

from wsi_deform.train.watcher import NullWatcher


class StopAfter(NullWatcher):
    """Asks to stop after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def step(self, *, epoch, step, loss):
        self.left -= 1

    def asked(self):
        return self.left <= 0
