"""What is worth an alert and whom it reaches: the settings, and what is due as a function of events and time.

A rule finds what is so now. What is due follows from that and from the journal alone: an alert is raised
once, again after its period while it lasts, and resolved with a message when it is over; a resumed run knows
from its journal what has been raised. Rules about silence need no event: they are asked on a tick that is
given the time. The engine puts alerts into the journal, and `notifier` delivers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ziggurat.choices import Choices
from ziggurat.domain import Objective
from ziggurat.errors import SpecError, near
from ziggurat.events import Alert
from ziggurat.listeners import channels
from ziggurat.listeners.alert_digest import Digest, Outline
from ziggurat.listeners.alert_rules import OVER, AnyRule, Lasting, Rules
from ziggurat.listeners.alert_shapes import SEVERITIES, Scene, Severity, Watch
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from ziggurat.history import History

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")


class ChannelSetting(Setting):
    """A way to reach people."""

    url: str = Field(
        min_length=1, repr=False, description="Address as Apprise takes it, such as ${SLACK_URL}."
    )
    severities: list[Severity] = Field(
        default=list(SEVERITIES), min_length=1, description="Of alerts whose rules name no channel."
    )


def _written_out(raw: object) -> object:
    """A bare address is short for `url:`."""
    return {"url": raw} if isinstance(raw, str) else raw


class Alerts(Setting):
    """What is worth an alert, and whom it reaches."""

    urls: list[str] = Field(
        default_factory=list,
        repr=False,
        description="Addresses that get every alert, as Apprise takes them, such as ${SLACK_URL}.",
    )
    channels: dict[
        str,
        Annotated[ChannelSetting, BeforeValidator(_written_out, json_schema_input_type=ChannelSetting | str)],
    ] = Field(default_factory=dict, description="Addresses by a name that rules can give, and for what.")
    rules: Rules = Field(default_factory=Rules)

    @field_validator("channels")
    @classmethod
    def _named(cls, channels: dict[str, ChannelSetting]) -> dict[str, ChannelSetting]:
        for name in channels:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"'{name[:40]}' is no name of a channel; begin with a letter and go on with letters, "
                    "digits, - and _, 32 in all"
                )
        return channels

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, rule in self.rules.each():
            for channel in rule.channels or ():
                if channel not in self.channels:
                    raise ValueError(
                        f"rules.{name}.channels names '{channel}', which is not in alerts.channels; "
                        f"{near(channel, self.channels)}"
                    )
        return self

    def check(self) -> None:
        """Hold the addresses against Apprise; they may be secrets, so no message repeats one.

        Raises:
            SpecError: An address is not one that Apprise can use.
        """
        for label, url in self.addresses().items():
            if not channels.usable(url):
                key = label if label.startswith("urls[") else f"channels.{label}.url"
                raise SpecError(
                    f"alerts.{key}: Apprise cannot use this address of {channels.scheme(url)}; "
                    "write it as its service demands, such as mailto://USER:PASSWORD@HOST"
                )

    def addresses(self) -> dict[str, str]:
        """All addresses by what they are called: the name of a channel, or a place in `urls`."""
        plain = {f"urls[{i}]": url for i, url in enumerate(self.urls)}
        return plain | {name: channel.url for name, channel in self.channels.items()}

    def reached(self, alert: Alert) -> list[str]:
        """What the channels are called that an alert goes to."""
        rule: AnyRule | None = getattr(self.rules, alert.rule, None) if alert.rule else None
        named = None if rule is None else rule.channels
        if named is None:
            named = [name for name, c in self.channels.items() if alert.severity in c.severities]
        return [f"urls[{i}]" for i in range(len(self.urls))] + list(dict.fromkeys(named))

    def outline(
        self,
        objectives: tuple[Objective, ...],
        searching: tuple[str, ...],
        choices: Callable[[str], Choices],
    ) -> Outline:
        """What a digest has to know to answer these rules."""
        rules = self.rules
        return Outline(
            objectives,
            searching,
            choices,
            horizon_s=rules.idle_workers.window_s,
            use_s=rules.low_utilisation.window_s,
            candidates=rules.low_diversity.window,
            trials=rules.many_failures.window,
        )


def due(history: History, digest: Digest, now_utc: float, settings: Alerts, watch: Watch) -> list[Alert]:
    """Alerts that are to be raised, raised again, or resolved now, in the order of the rules."""
    scene = Scene(history, digest, now_utc, watch)
    found: list[Alert] = []
    for name, rule in settings.rules.each():
        if rule.enabled:
            found += _changes(name, rule, scene)
    return found


def _changes(name: str, rule: AnyRule, scene: Scene) -> Iterator[Alert]:
    """What a rule has to say."""
    cases = {case.key: case for case in rule.cases(scene)}
    for key, case in cases.items():
        text = case.text
        if case.utc is not None:
            wanted = scene.history.alert_times.get(key, float("-inf")) < case.utc
        else:
            wanted = case.sure and _wanted(key, rule, scene)
            standing = scene.digest.standing.get(key)
            if wanted and standing is not None:
                lasted_h = (scene.now_utc - standing.first_utc) / 3600
                text = f"{text} This has lasted for {lasted_h:.3g} h.".lstrip()
        if wanted:
            yield Alert(key, rule.severity, case.title, text, name)
    if isinstance(rule, Lasting):
        yield from _over(name, cases, scene)


def _wanted(key: str, rule: AnyRule, scene: Scene) -> bool:
    """Whether what lasts is to be raised, for the first time or again."""
    standing = scene.digest.standing.get(key)
    if standing is None:
        return True
    hours = rule.repeat_hours if isinstance(rule, Lasting) else None
    return hours is not None and scene.now_utc - standing.last_utc >= hours * 3600


def _over(name: str, cases: Mapping[str, object], scene: Scene) -> Iterator[Alert]:
    """What a rule has raised and finds no more; what happened at a moment is never over."""
    for key, standing in scene.digest.standing.items():
        alert = standing.alert
        if alert.rule == name and key not in cases and name in OVER:
            yield Alert(key, alert.severity, alert.title, OVER[name], name, "resolved")


__all__ = ["Alerts", "ChannelSetting", "Digest", "Outline", "Watch", "due"]
