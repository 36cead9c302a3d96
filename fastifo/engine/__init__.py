"""Training: runs and their folders, the loop, the two executors, checkpoints and logs."""
