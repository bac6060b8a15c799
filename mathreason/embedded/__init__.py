"""A small language model that ships with the package, so that a first run needs no download.

`model_path()` is a folder in the usual Hugging Face layout (about 2.4 million parameters, 5 MB):
`AutoModelForCausalLM.from_pretrained(model_path())`. It was pretrained by `mathreason.embedded.pretrain` on
the text of `mathreason.embedded.corpus`: it knows small sums and running stories, and never saw a prompt.

What tuning adds to it on the generator's problems is the form, not the skill: asked in the prose of its
corpus, it already works out about 97 in 100 unseen stories; behind the prompt it answers none of them.
"""

from __future__ import annotations

from pathlib import Path


def model_path() -> Path:
    """The folder of the embedded model and its tokenizer."""
    return Path(__file__).resolve().parent / "model"
