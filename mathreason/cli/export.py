"""mathreason export"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import results_option


@click.command("export")
@click.argument("run", type=click.Path())
@results_option
@click.option("--output", type=click.Path(path_type=Path), help="The new folder [default: RUN/merged].")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "bfloat16", "float16", "float32"]),
    default="auto",
    show_default=True,
    help="Of the merged weights; auto: what the base model is stored in.",
)
def command(run: str, results: Path | None, output: Path | None, dtype: str) -> None:
    """Merge RUN's adapter into its base model: a folder for transformers and vLLM, with a model card.

    The adapter is merged into 16-bit or 32-bit weights, also where it was trained on 4-bit ones, and the
    merged model is compared with the adapter and the base before the folder appears. After a later
    evaluation of RUN the same call renews the card and leaves the weights as they are.

    \b
    Example:
      mathreason export results/RUN --output my-model
    """
    from mathreason.export import export
    from mathreason.jobfile import load_job
    from mathreason.progress import Reporter
    from mathreason.results import provenance_of
    from mathreason.session import find_run, job_provenance

    found = find_run(run, results)
    folder = output or found.path / "merged"
    with Reporter() as reporter, provenance_of(job_provenance(load_job(found.job))):
        manifest = export(found, folder, dtype, reporter)
    check = manifest["check"]
    size = sum(file["bytes"] for file in manifest["files"].values())
    click.echo(
        f"checked on {check['tokens']} tokens: logits {check['difference']:.1e} from the adapter's and "
        f"{check['distance_from_base']:.1e} from the base's, {check['same_next_token']} next tokens equal, "
        f"{check['kept_in_weights']:.1%} of the adapter's change in the weights: {check['verdict']}"
    )
    click.echo(f"merged model: {folder} ({manifest['dtype']}, {size / 1e6:.1f} MB)")
