"""From sources to training examples: sources, mixture, audit, prompts, packing."""
