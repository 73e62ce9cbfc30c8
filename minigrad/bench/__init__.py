"""Training steps of minigrad beside those of its peers: the same nets, the same numbers, turn by turn on the same cores."""
