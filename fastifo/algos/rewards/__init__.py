"""Methods that relabel the background with rewards and hand it to an offline RL learner."""
