"""Image encoders from timm, with one channel."""
