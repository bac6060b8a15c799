"""The job file's JSON schema, from the same classes that check it, so that editors complete job files."""

from __future__ import annotations

from mathreason.config import JobConfig
from mathreason.results import to_json


def job_schema() -> str:
    """JSON schema (draft 2020-12) of a job file, with `extends` and bare benchmark names allowed."""
    schema = JobConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "mathreason job"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another job file, relative to this one, that supplies what this one leaves out.",
    }
    # A job that extends another may leave out what that one says.
    schema["required"] = []
    items = schema["$defs"]["EvaluationConfig"]["properties"]["benchmarks"]
    items["items"] = {"anyOf": [{"type": "string"}, items["items"]]}
    return to_json(schema) + "\n"
