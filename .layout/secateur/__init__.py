"""Secateur prunes training sets: scores, selections, training and an honest comparison with random."""
