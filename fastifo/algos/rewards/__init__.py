"""Methods that compute rewards for the background, from which an offline RL backbone learns."""
