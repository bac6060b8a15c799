"""A small language model that ships with the package, so that a first run needs no download.

`model_path()` is a folder in the usual Hugging Face layout (about 2.4 million parameters, 5 MB):
`AutoModelForCausalLM.from_pretrained(model_path())`. It was pretrained by `mathreason.embedded.pretrain` on
the text of `mathreason.embedded.corpus`: it knows small sums and stories whose sums are worked as they
happen, and never saw a question. Tuning on the generator's problems teaches it to read a story to its end,
to work out what is asked, and to answer in the prompt's form.
"""

from __future__ import annotations

from pathlib import Path


def model_path() -> Path:
    """The folder of the embedded model and its tokenizer."""
    return Path(__file__).resolve().parent / "model"
