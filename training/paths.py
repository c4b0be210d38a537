"""The noise levels that few-step sampling visits, as a table to draw training inputs from."""

import torch


class Paths:
    """The noise levels along each sampling path as one table, drawn from and looked up in batches.

    levels: {nfe: [falling sigmas]}. Row r, place p is the level of evaluation p of path r.
    """

    def __init__(self, levels, device):
        self.longest = max(len(row) for row in levels.values())
        rows = [list(row) + [0.0] * (self.longest + 1 - len(row)) for row in levels.values()]
        self.table = torch.tensor(rows, device=device)
        later = [(r, p) for r, row in enumerate(levels.values()) for p in range(1, len(row))]
        self.later = torch.tensor(later, device=device)

    def draw(self, first, rest):
        """Random (rows, places): `first` at place 0, then `rest` evenly over the later places."""
        device = self.table.device
        starts = torch.randint(len(self.table), (first,), device=device)
        picks = self.later[torch.randint(len(self.later), (rest,), device=device)]
        rows = torch.cat([starts, picks[:, 0]])
        return rows, torch.cat([torch.zeros_like(starts), picks[:, 1]])

    def at(self, rows, places):
        """The levels there and the levels that follow (0 after the last)."""
        return self.table[rows, places], self.table[rows, places + 1]
