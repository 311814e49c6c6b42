"""What torch.export saves, understood without torch."""
