"""Programs that train: each is a process of its own, told what to do by an order."""
