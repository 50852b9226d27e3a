"""Ray as a placer: a bridge process speaks with it, and thin actors on its nodes start stations."""
