"""The `mathreason` command: knows the names of the commands and loads one when it is called.

Exit codes: 0 done or stopped as asked, 1 something failed, 2 bad input, 130 interrupted from the keyboard.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import click

from mathreason import __version__
from mathreason.errors import MathreasonError
from mathreason.training.stopping import Stopped, leave_word

# command: (module, one line of help). The lines stand here so that --help imports no command.
COMMANDS = {
    "run": ("run", "The whole path: data, training, base and tuned evaluation, report."),
    "train": ("train", "Prepare the data and train the adapter."),
    "evaluate": ("evaluate", "Evaluate base and tuned model on the job's benchmarks."),
    "sweep": ("sweep", "Carry out an ablation: every run of a job's sweep, and their comparison."),
    "compare": ("compare", "Is the tuned model better? Paired statistics on the same items."),
    "report": ("report", "Write a run's report.html."),
    "grade": ("grade", "Grade a file of responses, or a run's saved ones; no model needed."),
    "export": ("export", "Merge a run's adapter into its base model, with a model card."),
    "solve": ("solve", "Ask a trained run one question."),
    "plan": ("plan", "What a job needs in memory and time, before anything is loaded."),
    "validate": ("validate", "Check job files without loading anything."),
    "submit": ("submit", "Submit a job to Slurm: training, or the whole pipeline."),
    "status": ("status", "What runs, waits or failed, and how far it is."),
    "stop": ("stop", "Ask a run to save and stop, wherever it runs."),
    "doctor": ("doctor", "Look at this machine: what works, what does not, how to mend it."),
    "data": ("data", "Look at, audit or prefetch a job's training data."),
    "results": ("results", "List the runs in the results folder, or show one."),
}


def _on_stderr(record: logging.LogRecord) -> bool:
    """DeepSpeed, which peft imports where it is installed, logs to standard output: place of our results."""
    click.echo(f"DeepSpeed: {record.getMessage()}", err=True)
    return False


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"mathreason.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        logging.getLogger("DeepSpeed").addFilter(_on_stderr)
        try:
            return super().invoke(ctx)
        except Stopped as stop:  # already said; a run that was asked to stop has not failed
            leave_word(stop)
            sys.exit(0)
        except MathreasonError as error:
            for line in str(error).splitlines():
                click.echo(f"Error: {line}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:  # a full disk, a file system that went away
            click.echo(
                f"Error: {error}. What was complete is kept; the same command goes on from there.", err=True
            )
            sys.exit(MathreasonError.exit_code)
        except KeyboardInterrupt:
            click.echo(
                "Interrupted. What was complete is kept; the same command goes on from there.", err=True
            )
            sys.exit(130)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Start with: mathreason run jobs/quickstart.yaml. Shell completion for bash: "
        'eval "$(_MATHREASON_COMPLETE=bash_source mathreason)" (also zsh_source, fish_source).'
    ),
)
@click.version_option(__version__, prog_name="mathreason")
def main() -> None:
    """Fine-tune a language model for mathematical reasoning and know, honestly, whether it got better.

    One job file (YAML) says model, data, training and evaluation. Its results go to results/RUN, where
    RUN is the job's name and a hash; the same job goes on in the same run.
    """


if __name__ == "__main__":
    main()
