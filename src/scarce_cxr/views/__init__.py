"""From stored pixels to augmented views on the training device."""
