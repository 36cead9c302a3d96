"""Which of the papers' claims hold, from the committed rows of the studies."""
