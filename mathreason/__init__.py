"""Fine-tune a language model for mathematical reasoning and know, honestly, whether it got better."""

__version__ = "0.1.0"
