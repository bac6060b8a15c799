"""Each shipped configuration is one that accelerate reads, and asks for what its name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathreason.errors import InputError
from mathreason.training.launch import (
    NVME_PATH,
    config_file,
    environment_of,
    launch_of,
    planned_launch,
    shipped,
)

ASKED = {
    "single": ("none", 1, "none", "none"),
    "cpu": ("ddp", 2, "none", "none"),
    "ddp": ("ddp", 2, "none", "none"),
    "zero2": ("zero2", 2, "none", "none"),
    "zero3_cpu_offload": ("zero3", 2, "cpu", "cpu"),
    "zero3_nvme_offload": ("zero3", 2, "nvme", "cpu"),
    "fsdp_qlora": ("fsdp", 2, "none", "none"),
}


def test_every_shipped_configuration_is_listed_here() -> None:
    assert sorted(path.stem for path in shipped().iterdir()) == sorted(ASKED)


@pytest.mark.parametrize("name", ASKED)
def test_configuration_asks_for_what_its_name_says(name: str) -> None:
    asked = planned_launch(name)
    assert (asked.name, asked.processes, asked.optimizer, asked.parameters) == ASKED[name]


def test_configuration_for_the_cpu_hides_the_gpus() -> None:
    variables, processes = environment_of(config_file("cpu"))
    assert variables["CUDA_VISIBLE_DEVICES"] == ""
    assert launch_of(variables, processes).on_cpu


def test_adapter_can_be_gathered_from_its_parts() -> None:
    for name in ("zero3_cpu_offload", "zero3_nvme_offload"):
        variables, _ = environment_of(config_file(name))
        assert variables["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"
    variables, _ = environment_of(config_file("fsdp_qlora"))
    assert variables["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"


def test_number_of_processes_can_be_said_beside_the_configuration() -> None:
    assert environment_of(config_file("ddp"), 5)[1] == 5


def test_path_of_the_disk_is_passed_on() -> None:
    variables, _ = environment_of(config_file("zero3_nvme_offload"))
    assert variables[NVME_PATH.format("OPTIMIZER")] == "/local_nvme"


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"zero9: there is no such file, nor is it one of cpu, ddp, "):
        config_file("zero9")


@pytest.mark.parametrize(
    "text", ["- a list", "distributed_type: BOTH\nnum_processes: 2\n", "no_such_key: 1\n"]
)
def test_file_that_accelerate_cannot_read_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("compute_environment: LOCAL_MACHINE\n" * (text[0] != "-") + text, encoding="utf-8")
    with pytest.raises(InputError, match=r"own\.yaml: accelerate cannot read it"):
        environment_of(path)


def test_several_machines_are_left_to_torchrun(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    text = config_file("ddp").read_text(encoding="utf-8").replace("num_machines: 1", "num_machines: 2")
    path.write_text(
        text + "machine_rank: 0\nmain_process_ip: 10.0.0.1\nmain_process_port: 29500\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match=r"num_machines is 2; .* torchrun"):
        environment_of(path)
