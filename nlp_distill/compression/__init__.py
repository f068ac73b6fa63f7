"""Make a trained student smaller: fewer word pieces, narrower embeddings, fewer heads, units and weights."""
