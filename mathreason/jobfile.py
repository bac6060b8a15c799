"""Reading a job file: YAML with `extends:` and `--set`, to a `JobConfig` or to every problem at once.

    job = load_job(Path("jobs/quickstart.yaml"), overrides=["training.learning_rate=2e-4"])

Each problem is one line, `file:line: key: what is wrong`, with the nearest known key where one was
mistyped. `extends: other.yaml` (relative to the file that says it) supplies what a file leaves out;
mappings are merged, lists and values replaced.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.results import content_hash

MAX_JOB_BYTES = 1 << 20
MAX_EXTENDS = 10
MAX_VALUES = 100_000

_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

Location = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but `1e-4` is a number and a key given twice is an error."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@dataclass
class JobSource:
    """Values of a job and where each was said, as 'file:line' or '--set key=value'."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Location, str] = field(default_factory=dict)

    def place(self, location: Location) -> str:
        """Where `location`, or the nearest thing around it, was said."""
        for length in range(len(location), -1, -1):
            if location[:length] in self.places:
                return self.places[location[:length]]
        return "job"

    def change(self, key: str, value: Any, said: str) -> None:
        """Change the value at the dotted `key`; `said` is the place that later messages name."""
        parts = key.strip().split(".")
        if not all(parts):
            raise InputError(f"{said}: '{key}' is not a key; write section.key")
        target: Any = self.values
        for index, part in enumerate(parts[:-1]):
            target = _descend(target, part, said, parts[:index])
        if isinstance(target, list):
            target[_list_index(target, parts[-1], said)] = value
        elif isinstance(target, dict):
            target[parts[-1]] = value
        else:
            raise InputError(f"{said}: {'.'.join(parts[:-1])} is a single value")
        location = tuple(int(p) if p.isdigit() else p for p in parts)
        self.places = {k: v for k, v in self.places.items() if k[: len(location)] != location}
        self.places[location] = said
        for length in range(1, len(location)):  # sections that this key brought with it
            self.places.setdefault(location[:length], said)

    def job(self) -> JobConfig:
        """The checked job; InputError lists all problems."""
        try:
            return JobConfig.model_validate(self.values)
        except ValidationError as error:
            lines = [_sentence(self, problem) for problem in error.errors()]
            raise InputError("\n".join(dict.fromkeys(lines))) from error


def read_job(path: Path, overrides: list[str] | None = None) -> JobSource:
    """What `path` says, with `--set key=value` overrides applied, not checked yet."""
    source = _read_file(path, depth=0)
    for override in overrides or []:
        _apply_override(source, override)
    return source


def load_job(path: Path, overrides: list[str] | None = None) -> JobConfig:
    """The job in `path` with `--set key=value` overrides applied; InputError lists all problems."""
    return read_job(path, overrides).job()


def run_id(job: JobConfig) -> str:
    """Name of the job's run directory: the same job gives the same run."""
    return f"{job.name}-{content_hash(job.identity())[:8]}"


def dump_job(job: JobConfig) -> str:
    """The resolved job as YAML, every default written out."""
    values = job.model_dump(mode="json", exclude=None if job.sweep else {"sweep"})
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


# -- reading ---------------------------------------------------------------------------------------


def _read_file(path: Path, depth: int) -> JobSource:
    text = _read_text(path)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(_yaml_sentence(path, error)) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if node is None:
        raise InputError(f"{path}: the job file is empty; start from one in jobs/")
    if not isinstance(node, yaml.MappingNode):
        raise InputError(
            f"{path}:1: a job file is a mapping (name: …, model: …), found {node.tag.rsplit(':', 1)[-1]}"
        )
    source = JobSource()
    source.values = _build(node, path, (), source.places)
    return _with_parent(source, path, depth)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_JOB_BYTES:
            raise InputError(f"{path}: larger than {MAX_JOB_BYTES} bytes; is it a job file?")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not valid UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _yaml_sentence(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    return f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}"


def _build(node: yaml.Node, path: Path, location: Location, places: dict[Location, str]) -> Any:
    """The value of `node`, with the line of each value noted in `places`."""
    line = node.start_mark.line + 1
    places.setdefault(location, f"{path}:{line}")
    if len(places) > MAX_VALUES:  # aliases of aliases grow without bound
        raise InputError(f"{path}:{line}: more than {MAX_VALUES} values; is it a job file?")
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
        raise InputError(f"{path}:{line}: cannot read this value: a job file has no {node.tag}")
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            where = f"{path}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode) or key == "<<":
                raise InputError(f"{where}: a key must be plain text; use extends: instead of a merge key")
            if key in values:
                raise InputError(f"{where}: key '{key}' is given twice")
            places[(*location, key)] = where
            values[key] = _build(value_node, path, (*location, key), places)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, path, (*location, i), places) for i, child in enumerate(node.value)]
    loader = _Loader("")
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}:{line}: cannot read this value: {error}") from error
    finally:
        loader.dispose()


def _with_parent(source: JobSource, path: Path, depth: int) -> JobSource:
    parent_name = source.values.pop("extends", None)
    if parent_name is None:
        return source
    where = source.places[("extends",)]
    if not isinstance(parent_name, str):
        raise InputError(f"{where}: extends: give one file name")
    if depth >= MAX_EXTENDS:
        raise InputError(
            f"{where}: extends: more than {MAX_EXTENDS} files deep; do two files extend each other?"
        )
    parent_path = path.parent / parent_name
    if not parent_path.exists():
        raise InputError(f"{where}: extends: {parent_path} does not exist")
    parent = _read_file(parent_path, depth + 1)
    _merge(parent, source.values, source.places, ())
    return parent


def _merge(into: JobSource, values: dict[str, Any], places: dict[Location, str], at: Location) -> None:
    target = into.values
    for key in at:
        target = target[key]  # type: ignore[index]
    for key, value in values.items():
        location = (*at, key)
        into.places[location] = places[location]
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(into, value, places, location)
            continue
        target[key] = value
        below = {k: v for k, v in places.items() if k[: len(location)] == location}
        into.places.update(below)


def _apply_override(source: JobSource, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not all(key.strip().split(".")):
        raise InputError(f"--set {override}: write it as section.key=value")
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = None if node is None else _build(node, Path("--set"), (), {})
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"--set {override}: the value is not valid YAML") from error
    source.change(key, value, f"--set {override}")


def _descend(target: Any, part: str, said: str, above: list[str]) -> Any:
    if isinstance(target, list):
        return target[_list_index(target, part, said)]
    if not isinstance(target, dict):
        raise InputError(f"{said}: {'.'.join(above)} is a single value")
    child = target.setdefault(part, {})
    if child is None:
        child = target[part] = {}
    return child


def _list_index(target: list[Any], part: str, said: str) -> int:
    if not part.isdigit() or int(part) >= len(target):
        raise InputError(f"{said}: '{part}' is not an index of a list of {len(target)}")
    return int(part)


# -- saying what is wrong --------------------------------------------------------------------------


def _sentence(source: JobSource, problem: Any) -> str:
    location: Location = tuple(problem["loc"])
    where = source.place(location)
    key = ".".join(str(part) for part in location) or "job"
    kind, context = problem["type"], problem.get("ctx", {})
    found = problem.get("input")
    if kind == "extra_forbidden":
        return f"{where}: unknown key '{key}'{_suggestion(location)}"
    if kind == "missing":
        return f"{where}: '{key}' is missing"
    if kind == "greater_than_equal":
        return f"{where}: {key}: must be at least {context['ge']}, is {found!r}"
    if kind == "greater_than":
        return f"{where}: {key}: must be more than {context['gt']}, is {found!r}"
    if kind == "less_than_equal":
        return f"{where}: {key}: must be at most {context['le']}, is {found!r}"
    if kind == "less_than":
        return f"{where}: {key}: must be less than {context['lt']}, is {found!r}"
    if kind == "literal_error":
        near = _nearest(str(found), re.findall(r"'([^']+)'", context["expected"]))
        return f"{where}: {key}: must be {context['expected']}, is {found!r}{near}"
    if kind == "value_error":
        return f"{where}: {key}: {context['error']}"
    message = problem["msg"].replace("Input should be", "must be")
    return f"{where}: {key}: {message}, is {found!r}"


def _suggestion(location: Location) -> str:
    """'; did you mean …' with the nearest key of the same section, or of the whole job."""
    model = _section_at(location[:-1])
    wrong = str(location[-1])
    if model and (near := _nearest(wrong, list(model.model_fields))):
        return near
    everywhere = {name.rsplit(".", 1)[-1]: name for name in _all_keys(JobConfig, "")}
    match = difflib.get_close_matches(wrong, everywhere, n=1, cutoff=0.8)
    return f"; did you mean '{everywhere[match[0]]}'?" if match else ""


def _nearest(wrong: str, known: list[str]) -> str:
    match = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"; did you mean '{match[0]}'?" if match else ""


def _section_at(location: Location) -> type[BaseModel] | None:
    model: type[BaseModel] | None = JobConfig
    for part in location:
        if isinstance(part, int):
            continue
        if model is None or part not in model.model_fields:
            return None
        model = _model_in(model.model_fields[part].annotation)
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section class inside an annotation such as `list[SourceConfig] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_in(a)) is not None), None)


def _all_keys(model: type[BaseModel], prefix: str) -> list[str]:
    keys: list[str] = []
    for name, info in model.model_fields.items():
        keys.append(prefix + name)
        inner = _model_in(info.annotation)
        if inner is not None and inner is not model:
            keys += _all_keys(inner, f"{prefix}{name}.")
    return keys
