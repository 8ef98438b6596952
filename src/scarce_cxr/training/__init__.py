"""The one loop, and what it stands on: settings, schedules, optimizers, checkpoints, run folders."""
