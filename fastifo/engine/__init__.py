"""Training: the loop, checkpoints, logs. It calls the algorithms, never the other way round."""
