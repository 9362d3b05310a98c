"""A model directory <-> what is in it."""
