"""What a job takes from the Hub: what of it is missing on a machine without network, and fetching models.

    missing(job, data_dir)      # ["model mistralai/Mistral-7B-v0.1 (model-00002-of-00002.safetensors)", ...]
    require_local(job, path, data_dir)       # InputError: what is missing, and the command that fetches it
    for line in fetch_model(job.model): print(line)                  # on a machine with network

Imports no torch.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mathreason.config import JobConfig, ModelConfig
from mathreason.data.prefetch import needed
from mathreason.errors import InputError
from mathreason.models import model_source
from mathreason.results import file_sha256, make_directory

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
OFFLINE = "HF_HUB_OFFLINE"
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
KINDS = (".safetensors", ".json", ".model", ".jinja")
"""Endings of the files that are fetched of a model."""


def is_offline(unless_said: bool) -> bool:
    """Whether HF_HUB_OFFLINE says that there is no network, as huggingface_hub reads it."""
    said = os.environ.get(OFFLINE)
    return said.upper() in ("1", "ON", "YES", "TRUE") if said else unless_said


def missing(job: JobConfig, data_dir: Path | None) -> list[str]:
    """What the job needs and neither the data folder nor the Hub's cache holds, one phrase for each."""
    files = missing_of_model(job.model)
    found = [f"model {job.model.name} ({', '.join(files)})"] if files else []
    return found + [phrase for each in needed(job, data_dir) if (phrase := each.lacking()) is not None]


def require_local(job: JobConfig, where: str, data_dir: Path | None, overrides: Sequence[str] = ()) -> None:
    """Raise InputError where `job` would need the network, naming what is missing and what fetches it.

    `where` is the job as `mathreason data prefetch` takes it, `overrides` its KEY=VALUE.
    """
    if found := missing(job, data_dir):
        options = [word for each in overrides for word in ("--set", each)]
        if data_dir:
            options += ["--data-dir", str(data_dir)]
        command = shlex.join(["mathreason", "data", "prefetch", where, *options])
        raise InputError(
            f"{where}: not on this machine, and needed without network: {'; '.join(found)}. "
            f"With network, `{command}` fetches it."
        )


# -- models ----------------------------------------------------------------------------------------


def missing_of_model(config: ModelConfig) -> list[str]:
    """Files of a Hub model that the cache lacks: config, tokenizer, weights with all their shards."""
    source = model_source(config)
    if Path(source).is_dir():
        return []
    found = [] if _cached(source, "config.json", config) else ["config.json"]
    if not any(_cached(source, name, config) for name in TOKENIZERS):
        found.append(TOKENIZERS[0])
    index = _cached(source, INDEX, config)
    if index is not None:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        found += sorted(name for name in shards if not _cached(source, name, config))
    elif not _cached(source, WEIGHTS, config):
        found.append(WEIGHTS)
    return found


def _cached(source: str, name: str, config: ModelConfig) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source, name, revision=config.revision)
    return Path(path) if isinstance(path, str) else None


def fetch_model(config: ModelConfig, only_sizes: bool = False) -> Iterator[str]:
    """Fetch a Hub model's config, tokenizer and weights into the Hub's cache; yields sizes, then the place.

    What is there is kept, what was interrupted goes on, and large files are held to their SHA-256. Raises
    InputError when the Hub cannot be reached, knows no such model, or the disk is too small.
    """
    source = model_source(config)
    if Path(source).is_dir():
        yield f"model {config.name}: local"
        return
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    files = _files_on_hub(source, config.revision)
    size = sum(file.size or 0 for file in files)
    left = sum(file.size or 0 for file in files if not _cached(source, file.rfilename, config))
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    yield (
        f"model {source}: {len(files)} files, {size / 1e6:.1f} MB, of which {left / 1e6:.1f} MB to fetch; "
        f"{free / 1e9:.0f} GB free in {cache}"
    )
    if left > free:
        raise InputError(f"model {source}: {left / 1e9:.2f} GB do not fit into {cache}; set HF_HOME")
    if not only_sizes:
        folder = _fetched(source, config.revision, files)
        if lacking := missing_of_model(config):
            raise InputError(
                f"model {source} has no {', '.join(lacking)} on the Hub; "
                "weights are read from safetensors alone"
            )
        yield f"model {source}: complete ({folder})"


def _fetched(source: str, revision: str | None, files: list[Any]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import MAX_HTTP_DOWNLOAD_SIZE

    names = [file.rfilename for file in files]
    try:
        for file in files:
            if file.lfs is not None and file.size <= MAX_HTTP_DOWNLOAD_SIZE:
                _fetch_large(source, revision, file)
        folder = Path(snapshot_download(source, revision=revision, allow_patterns=names))
    except InputError:
        raise
    except Exception as error:  # the Hub's, the network's and the file system's
        raise InputError(_not_fetched(source, error)) from error
    for file in files:
        path = folder / file.rfilename
        if file.lfs is not None and file_sha256(path) != file.lfs.sha256:
            path.resolve().unlink()
            path.unlink()
            raise InputError(_damaged(source, file))
    return folder


def _fetch_large(source: str, revision: str | None, file: Any) -> None:
    """Fetch a large file to where the Hub's cache has it, going on with what an interrupted call has left.

    `snapshot_download` would begin again, as each of its attempts writes to a file of its own. What is there
    under its hash it only links.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not in __all__

    blob = (
        Path(HF_HUB_CACHE) / repo_folder_name(repo_id=source, repo_type="model") / "blobs" / file.lfs.sha256
    )
    if blob.exists():
        return
    make_directory(blob.parent)
    part = blob.with_name(f"{blob.name}.mathreason-part")
    with part.open("ab") as out:
        if out.tell() > file.size:
            out.truncate(0)
            out.seek(0)
        url = hf_hub_url(source, file.rfilename, revision=revision)
        http_get(url, out, resume_size=out.tell(), headers=build_hf_headers(), expected_size=file.size)
    if file_sha256(part) != file.lfs.sha256:
        part.unlink()
        raise InputError(_damaged(source, file))
    part.rename(blob)


def _damaged(source: str, file: Any) -> str:
    return f"model {source}: {file.rfilename} arrived damaged and was removed; call the same again"


def _files_on_hub(source: str, revision: str | None) -> list[Any]:
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(source, revision=revision, files_metadata=True)
    except Exception as error:  # likewise
        raise InputError(_not_fetched(source, error)) from error
    found = [file for file in info.siblings or [] if "/" not in file.rfilename]
    return [file for file in found if file.rfilename.endswith(KINDS)]


def _not_fetched(source: str, error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    return f"model {source} cannot be fetched from the Hub: {said}"
