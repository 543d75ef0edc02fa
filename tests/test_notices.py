"""Notices of the cloud: what is asked, what counts as one, and silence where there is no cloud."""

import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import yaml

from tests.real import plain, python_space, train, until, use_models
from tests.servers.imds import ACTION, REBALANCE, Imds, imds
from ziggurat.events import to_plain
from ziggurat.notices import Absent, Ec2, Gce, Notices, sources

SOON_S = 0.02
PATIENCE_S = 20.0


@pytest.fixture
def cloud() -> Iterator[Imds]:
    with imds() as server:
        yield server


@pytest.fixture(autouse=True)
def no_cloud_of_this_machine(monkeypatch):
    for name in ("DISABLED", "SERVICE_ENDPOINT", "SERVICE_ENDPOINT_MODE"):
        monkeypatch.delenv(f"AWS_EC2_METADATA_{name}", raising=False)


class Heard(list[str]):
    """Notices that were heard."""

    def __init__(self) -> None:
        super().__init__()
        self.first = threading.Event()

    def __call__(self, text: str) -> None:
        self.append(text)
        self.first.set()


class Told:
    """A source that answers what it was given, one after the other; then it says so."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self.left = list(answers)
        self.silent = threading.Event()

    def ask(self) -> str | None:
        if not self.left:
            self.silent.set()
            return None
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def ended(notices: Notices) -> bool:
    notices._thread.join(PATIENCE_S)
    return not notices.watching


def test_nothing_is_announced_until_ec2_says_so(cloud):
    source = Ec2(cloud.url)
    assert source.ask() is None
    assert cloud.asked == ["PUT /latest/api/token", f"GET {ACTION}"]
    cloud.announce()
    assert source.ask() == "EC2 will terminate this spot instance at 2026-11-22T12:00:00Z"
    assert cloud.asked[2:] == [f"GET {ACTION}"], "the token is kept"


@pytest.mark.parametrize("action", ["stop", "hibernate"])
def test_a_spot_instance_that_stops_is_a_notice_too(cloud, action):
    cloud.announce(action)
    assert f"EC2 will {action} " in (Ec2(cloud.url).ask() or "")


def test_a_token_that_is_no_longer_good_is_replaced(cloud):
    source = Ec2(cloud.url)
    source.ask()
    cloud.token = "token-2"
    cloud.announce()
    assert source.ask() is not None


def test_a_recommendation_to_rebalance_is_no_notice_unless_it_is_to_be_heeded(cloud):
    cloud.answers[REBALANCE] = '{"noticeTime": "2026-11-22T11:00:00Z"}'
    assert Ec2(cloud.url).ask() is None
    assert f"GET {REBALANCE}" not in cloud.asked
    assert "recommended at 2026-11-22T11:00:00Z" in (Ec2(cloud.url, rebalance=True).ask() or "")


def test_the_address_is_where_the_aws_sdks_look_for_it(cloud, monkeypatch):
    cloud.announce()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{cloud.url}/")
    assert Ec2().ask() is not None


def test_ec2_is_not_asked_where_its_metadata_is_switched_off(cloud, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Absent):
        Ec2(cloud.url).ask()
    assert cloud.asked == []


def test_metadata_is_never_asked_for_through_a_proxy(cloud, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        cloud.announce()
        assert Ec2(cloud.url).ask() is not None


def test_an_answer_that_is_no_notice_is_none(cloud):
    source = Ec2(cloud.url)
    for text in ('{"hello": "world"}', "[]", "1"):
        cloud.answers[ACTION] = text
        assert source.ask() is None


def test_google_says_when_it_takes_an_instance(cloud):
    source = Gce(cloud.host)
    assert source.ask() is None
    cloud.preempted = "TRUE"
    assert source.ask() == "Google Cloud is taking this instance away"


def test_what_answers_in_googles_place_is_not_believed(cloud):
    cloud.preempted = "<html>sign in first</html>"
    with pytest.raises(Absent):
        Gce(cloud.host).ask()


def test_off_the_cloud_each_service_is_asked_once_and_never_again(caplog):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        heard = Heard()
        with caplog.at_level(logging.INFO, logger="ziggurat.notices"):
            notices = Notices([Ec2(f"http://{host}"), Gce(host)], heard, every_s=SOON_S)
            assert ended(notices)
    assert heard == []
    assert len([r for r in caplog.records if "not watched" in r.message]) == 2


def test_a_service_that_accepts_and_says_nothing_is_given_up_soon(monkeypatch):
    monkeypatch.setattr("ziggurat.notices.FIRST_S", 0.1)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(Absent):
            Ec2(f"http://127.0.0.1:{mute.getsockname()[1]}").ask()


def test_the_thread_hears_a_notice_once_and_ends(cloud):
    heard = Heard()
    notices = Notices([Ec2(cloud.url), Gce(cloud.host)], heard, every_s=SOON_S)
    assert notices.watching
    cloud.announce()
    assert heard.first.wait(PATIENCE_S)
    assert ended(notices)
    assert len(heard) == 1


def test_a_service_that_fails_for_a_while_is_asked_again(cloud):
    heard = Heard()
    source = Ec2(cloud.url)
    assert source.ask() is None
    cloud.broken = True
    with pytest.raises(OSError, match="500"):
        source.ask()
    notices = Notices([source], heard, every_s=SOON_S)
    cloud.broken = False
    cloud.announce()
    assert heard.first.wait(PATIENCE_S)
    notices.close()


def test_an_error_of_one_source_does_not_keep_another_from_being_heard():
    heard = Heard()
    sick = Told(OSError("timed out"), ValueError("no JSON"), OSError("timed out"))
    notices = Notices([sick, Told(None, None, "the end")], heard, every_s=SOON_S)
    assert heard.first.wait(PATIENCE_S)
    assert heard == ["the end"]
    assert ended(notices)


def test_nobody_is_called_after_close():
    heard = Heard()
    source = Told()
    notices = Notices([source], heard, every_s=SOON_S)
    assert source.silent.wait(PATIENCE_S)
    notices.close()
    source.left.append("too late")
    assert ended(notices)
    assert heard == []


def test_a_notice_that_comes_while_it_is_closed_is_not_passed_on():
    heard, opened = Heard(), threading.Event()
    made: list[Notices] = []

    class Late:
        def ask(self) -> str | None:
            opened.wait(PATIENCE_S)
            made[0].close()
            return "too late"

    made.append(Notices([Late()], heard, every_s=SOON_S))
    opened.set()
    assert ended(made[0])
    assert heard == []


def test_both_clouds_are_asked_by_default():
    assert [type(s) for s in sources()] == [Ec2, Gce]


@pytest.mark.slow
@pytest.mark.soak
def test_a_worker_that_hears_a_notice_checkpoints_and_ends_as_preempted(cloud, tmp_path, monkeypatch):
    use_models(tmp_path, monkeypatch)
    folder = tmp_path / "small-1"
    job = train("00000", "slow", epochs=500)
    home = folder / "trials" / "00000"
    home.mkdir(parents=True)
    text = yaml.safe_dump(plain(space=python_space(mode=["slow"])))
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    order = {"job": to_plain(job), "grace_s": 20.0, "beat_s": 0.5}
    (home / f"{job.key}.job.json").write_text(json.dumps(order), encoding="utf-8")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", cloud.url)
    monkeypatch.setenv("GCE_METADATA_HOST", cloud.host)
    argv = [sys.executable, "-m", "ziggurat.once", str(folder), job.key]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as worker:
        beat = home / f"{job.key}.beat.json"
        until(lambda: worker.poll() is not None or (beat.exists() and json.loads(beat.read_text())["rows"]))
        cloud.announce()
        said, _ = worker.communicate(timeout=60)
    assert (home / f"{job.key}.json").exists(), said.decode()
    result = json.loads((home / f"{job.key}.json").read_text())
    assert result["failure"]["kind"] == "preempted"
    assert "EC2 will terminate this spot instance" in result["failure"]["text"]
    assert result["retry"]
    assert (folder / result["checkpoint"]).is_file()
