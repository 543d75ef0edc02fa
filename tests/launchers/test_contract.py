"""What every launcher of real machines does alike: the same jobs, the same results, the same ends.

The script that is trained needs no torch, so a job takes about as long as Python takes to start. Ray runs the
same suite inside a network namespace of its own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launchers import contract
from tests.servers.plain import PlainSetting
from tests.servers.slurm import SlurmServer
from ziggurat.launchers import Local, TorchX
from ziggurat.protocols import Launcher, Site

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["local", "processes", "local_cwd", "slurm"])
def place(request, tmp_path_factory) -> Iterator[contract.Place]:
    """A launcher with two places, and its run directory."""
    home = tmp_path_factory.mktemp(f"contract-{request.param}")
    setting: Local | PlainSetting | TorchX
    match request.param:
        case "local":
            setting = Local()
        case "processes":
            setting = PlainSetting(poll_s=0.1, grace_s=8, linger_s=60)
        case "local_cwd":
            setting = TorchX(scheduler="local_cwd", poll_s=0.1, grace_s=8, linger_s=60)
        case _:
            server: SlurmServer = request.getfixturevalue("slurm_server")
            assert server.environment
            setting = TorchX(
                scheduler="slurm", settings={"partition": "low"}, poll_s=0.2, grace_s=8, linger_s=60,
                resources={"memory_mb": 500},
            )  # fmt: skip
    made = contract.Place(home, lambda folder: _launched(setting, folder))
    yield made
    made.close()


def _launched(setting: Local | PlainSetting | TorchX, folder: Path) -> Launcher:
    return setting.launch(Site(folder, 2, "retrain"))


test_a_job_gives_numbers_a_result_and_a_checkpoint = contract.gives_numbers_a_result_and_a_checkpoint
test_a_cancelled_job_keeps_its_state_and_goes_on_from_it = contract.keeps_its_state_when_cancelled
test_a_script_that_fails_says_why = contract.says_why_a_script_failed
test_a_trial_goes_on_where_it_was = contract.goes_on_with_a_trial_where_it_was
test_places_are_taken_and_given_back = contract.takes_and_gives_back_places
test_the_result_of_an_earlier_controller_is_found = contract.finds_the_result_of_an_earlier_controller
test_a_plan_is_text_and_does_nothing = contract.plans_without_doing
