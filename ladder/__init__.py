"""The ladder's small library: nothing in it knows a stage's name."""
