"""One module for each library of environments; `fastifo.envs.registry` chooses among them."""
