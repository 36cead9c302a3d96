"""Training: the loop, checkpoints, logs. An algorithm never imports this; it is called from here."""
