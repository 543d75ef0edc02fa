"""`ziggurat prefect up`: everything that a Prefect server has to know about us, created by one command.

The work pool, its concurrency limit, the deployments and the automations; done again, it brings them up to
date.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from flows.options import JsonOption, show
from ziggurat.errors import SpecError, ZigguratError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

FOLDER = Path(__file__).resolve().parents[1] / "deployments"
DEPLOYMENTS, AUTOMATIONS = FOLDER / "prefect.yaml", FOLDER / "automations.yaml"
DEPLOY_S = 180.0

app = typer.Typer(no_args_is_help=True, help="Set up a Prefect server.")


@app.command()
def up(
    pool: Annotated[
        str, typer.Option("--pool", metavar="NAME", help="Work pool of the deployments.")
    ] = "ziggurat",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Flow runs of the pool at the same time.")] = 2,
    notify: Annotated[
        str | None,
        typer.Option(
            "--notify",
            metavar="TYPE/NAME",
            help="Notification block of the server, such as slack-webhook/team; without one nothing is sent.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create work pool, deployments and automations on the server of PREFECT_API_URL, or update them."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise SpecError("PREFECT_API_URL: is not set; name your server, such as http://127.0.0.1:4200/api")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
        if problem is not None:
            raise SpecError(f"PREFECT_API_URL {url}: the server does not answer ({problem}); is it running?")
        block = None if notify is None else _block(client, notify)
        made = {"pool": _pool(client, pool, limit), "deployments": _deploy(pool)}
        made["automations"] = _automate(client, block)
    lines = [f"{what}: {', '.join(names)}" for what, names in made.items()]
    if notify is None:
        lines.append("nobody is told of failures: name a block by --notify TYPE/NAME")
    lines.append(f"next: prefect worker start --pool {pool}")
    show(made, "\n".join(lines), as_json=as_json)


def _block(client: SyncPrefectClient, notify: str) -> str:
    """The id of a notification block.

    Raises:
        SpecError: There is none of that name.
    """
    from prefect.exceptions import ObjectNotFound

    kind, slash, name = notify.partition("/")
    if not slash or not kind or not name:
        raise SpecError(f"--notify {notify}: write TYPE/NAME, such as slack-webhook/team")
    try:
        return str(client.read_block_document_by_name(name, kind).id)
    except ObjectNotFound:
        raise SpecError(
            f"--notify {notify}: the server has no such block; create it on its page Blocks, or see "
            "`prefect block ls`"
        ) from None


def _pool(client: SyncPrefectClient, name: str, limit: int) -> list[str]:
    """Create a pool of processes, or leave the one that is there as it is but for its limit."""
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists

    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=limit))
    except ObjectAlreadyExists:
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
    return [name]


def _deploy(pool: str) -> list[str]:
    """Deploy everything in `prefect.yaml` by Prefect's own command.

    Raises:
        ZigguratError: It has failed.
    """
    plain = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))
    words = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(DEPLOYMENTS)]
    done = subprocess.run(
        [*words, "--all", "--pool", pool],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        timeout=DEPLOY_S,
        check=False,
    )
    if done.returncode != 0:
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
        raise ZigguratError(f"prefect deploy has failed: {''.join(last).strip()}")
    return [f"ziggurat/{d['name']}" for d in plain["deployments"]]


def _automate(client: SyncPrefectClient, block: str | None) -> list[str]:
    """Create the automations, or replace those of the same name."""
    from prefect.events.schemas.automations import AutomationCore

    plain: Mapping[str, list[dict[str, Any]]] = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))
    wanted = [*plain["always"], *(_sending(a, block) for a in plain["notify"] if block is not None)]
    for given in wanted:
        automation = AutomationCore.model_validate(given)
        there = client.read_automations_by_name(automation.name)
        if there:
            client.update_automation(there[0].id, automation)
        else:
            client.create_automation(automation)
    return [given["name"] for given in wanted]


def _sending(automation: dict[str, Any], block: str | None) -> dict[str, Any]:
    """An automation that sends through a block."""
    actions = [{**action, "block_document_id": block} for action in automation["actions"]]
    return {**automation, "actions": actions}
