"""From training examples to an adapter: model loading, trainer, checkpoints."""
