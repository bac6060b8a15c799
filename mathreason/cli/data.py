"""mathreason data inspect, audit, prefetch"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mathreason.cli.options import job_options, target_of

if TYPE_CHECKING:
    from mathreason.config import JobConfig
    from mathreason.data.inspect import SourceLook


@click.group("data")
def command() -> None:
    """Look at, audit or prefetch a job's training data."""


@command.command("inspect")
@job_options
@click.option(
    "--rows", type=click.IntRange(min=1), default=1000, show_default=True, help="Rows read of each source."
)
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Problems shown of each source.",
)
def inspect(
    target: str,
    overrides: tuple[str, ...],
    results: Path | None,
    data_dir: Path | None,
    rows: int,
    samples: int,
) -> None:
    """Show each source of a job: columns, lengths in tokens, solution steps, what would be dropped, samples.

    \b
    Example:
      mathreason data inspect jobs/tiny_gsm8k.yaml --data-dir data
    """
    from mathreason.data.inspect import inspect_sources
    from mathreason.data.prompts import Prompter
    from mathreason.models import load_tokenizer

    job = target_of(target, overrides, results, data_dir).job
    prompter = Prompter(job.prompt, load_tokenizer(job.model))
    for look in inspect_sources(job, prompter, data_dir, rows, samples):
        _show(look, job.data.max_length)


def _show(look: SourceLook, max_length: int) -> None:
    click.echo(click.style(f"{look.source}", bold=True) + f"  {look.origin}, {look.rows} rows read")
    for name, types in look.columns.items():
        kinds = ", ".join(f"{kind} ({count})" for kind, count in types.most_common())
        click.echo(f"  column {name}: {kinds}")
    for reason, count in look.rejected.most_common():
        click.echo(f"  not used: {count} {reason}")
    if (tokens := look.token_quantiles()) is not None:
        click.echo("  tokens: shortest {}, quartiles {} {} {}, longest {}".format(*tokens))
        click.echo(f"  longer than data.max_length {max_length}: {look.too_long}")
        steps = ", ".join(f"{number}: {count}" for number, count in sorted(look.steps.items()))
        click.echo(f"  solution steps: {steps}")
    for problem in look.samples:
        click.echo(f"  sample {problem.id}")
        text = f"{problem.question}\n---\n{problem.solution}\n#### {problem.answer}"
        click.echo("\n".join(f"    {line}" for line in text.splitlines()))


@command.command("audit")
@job_options
def audit(target: str, overrides: tuple[str, ...], results: Path | None, data_dir: Path | None) -> None:
    """Audit a job's training rows against its benchmarks: how many are test items, and which.

    Nothing is written. Exit code 0 also when rows match: what happens to them is data.on_contamination.

    \b
    Example:
      mathreason data audit jobs/tiny_gsm8k.yaml --data-dir data
    """
    from mathreason.data.mixture import build_mixture
    from mathreason.data.prompts import Prompter
    from mathreason.models import load_tokenizer
    from mathreason.pipeline import benchmark_items
    from mathreason.progress import Reporter

    job = target_of(target, overrides, results, data_dir).job
    prompter = Prompter(job.prompt, load_tokenizer(job.model))
    items = benchmark_items(job, data_dir)
    report = build_mixture(job.data, items, prompter, data_dir, Reporter()).audit
    for source, counts in report.by_source.items():
        click.echo(
            f"{source}: {counts['matched']} of {counts['checked']} rows are in {', '.join(report.benchmarks)}"
        )
    for reason, count in report.reasons.most_common():
        click.echo(f"  {count} by {reason}")
    for example in report.examples[:5]:
        click.echo(f"  {example['id']} is {example['item']} ({example['reason']})")


@command.command("prefetch")
@job_options
@click.option("--dry-run", is_flag=True, help="Say sizes and fetch nothing.")
def prefetch(
    target: str, overrides: tuple[str, ...], results: Path | None, data_dir: Path | None, dry_run: bool
) -> None:
    """Fetch what a job needs from the Hub, for nodes without network.

    The model goes to the Hub's cache (HF_HOME), sources, benchmarks and worked examples to --data-dir;
    sizes are said first. What is there is kept, and large files of a model go on where they were interrupted.

    \b
    Example:
      mathreason data prefetch jobs/mistral_7b.yaml --data-dir data
    """
    from mathreason.data.prefetch import prefetch as fetch
    from mathreason.data.sources import DEFAULT_DATA_DIR
    from mathreason.hub import fetch_model

    folder = data_dir or DEFAULT_DATA_DIR
    jobs = _jobs_of(target, overrides, results)
    for model in {(job.model.name, job.model.revision): job.model for job in jobs}.values():
        for line in fetch_model(model, only_sizes=dry_run):
            click.echo(line)
    for line in fetch(jobs, folder, only_sizes=dry_run):
        click.echo(line)


def _jobs_of(target: str, overrides: tuple[str, ...], results: Path | None) -> list[JobConfig]:
    """The job of a job file or run directory; of a sweep those of all its runs."""
    from mathreason.sweep import jobs_of

    path = Path(target)
    if path.is_file():
        return jobs_of(path, list(overrides))
    return [target_of(target, overrides, results, None).job]
