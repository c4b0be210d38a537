"""Means of the metrics since the last row of the log; the device is read when a row is due."""

import torch


class Window:
    """Sums of metrics over steps, kept on the device until `settle` reads them.

    A step in which a network's update was dropped counts for the metrics that count such drops
    alone: one value that is not finite would hide the others of the window.
    """

    def __init__(self, sums=None, counts=None, images=0, seconds=0.0, skips=None):
        self.sums, self.counts = sums or {}, counts or {}
        self.images, self.seconds = images, seconds
        self.pending = {}  # keys of a kind of step -> (sums, counts, which of them count drops)
        # Name that counts a network's drops -> how many of its updates up to now, without a break.
        # Not all networks learn at every step.
        self.skips = skips or {}

    def add(self, metrics, images, drop_metrics):
        """Take in {name: scalar tensor} of a step of so many images; drop_metrics: the names that
        say whether an update was dropped (1) or not (0), or the share of several that was."""
        self.images += images
        values = torch.stack([value.float() for value in metrics.values()])
        keys = tuple(metrics)
        if keys not in self.pending:
            is_drop = [key in drop_metrics for key in keys]
            is_drop = torch.tensor(is_drop, device=values.device)
            # In double precision sums of so few are exact: a stop in between changes no mean.
            sums = torch.zeros_like(values, dtype=torch.float64)
            self.pending[keys] = sums, torch.zeros_like(values), is_drop
        sums, counts, is_drop = self.pending[keys]
        dropped = ((values != 0) & is_drop).any()
        counted = is_drop | ~dropped
        sums += torch.where(counted, values, 0.0)
        counts += counted
        for name in set(keys).intersection(drop_metrics):
            is_lost = (metrics[name] == 1).float()  # all of the step's updates of that network
            self.skips[name] = (self.skips.get(name, 0.0) + 1.0) * is_lost

    def dropped_in_a_row(self, limit):
        """{name: how many of a network's last updates, all of them dropped} of those with at least
        so many; waits for the device."""
        counts = {name: int(count) for name, count in self.skips.items()}
        return {name: count for name, count in counts.items() if count >= limit}

    def settle(self):
        """Wait for the device and bring its sums here."""
        for keys, (sums, counts, _) in self.pending.items():
            for key, total, count in zip(keys, sums.tolist(), counts.tolist()):
                if count:
                    self.sums[key] = self.sums.get(key, 0.0) + total
                    self.counts[key] = self.counts.get(key, 0) + int(count)
            sums.zero_()
            counts.zero_()

    def join(self, processes):
        """Make the settled sums the means over all processes, which count the same steps."""
        keys = sorted(self.sums)
        self.sums = dict(zip(keys, processes.mean([self.sums[key] for key in keys])))

    def state(self):
        """The settled content as plain values, arguments of a `Window` that goes on with it."""
        own = dict(sums=self.sums, counts=self.counts, images=self.images, seconds=self.seconds)
        return own | {"skips": {name: float(count) for name, count in self.skips.items()}}

    def close(self):
        """The settled means as a row of the log; begins anew."""
        row = {key: value / self.counts[key] for key, value in self.sums.items()}
        row["images_per_second"] = self.images / max(self.seconds, 1e-9)
        self.sums, self.counts, self.images, self.seconds = {}, {}, 0, 0.0
        return row
