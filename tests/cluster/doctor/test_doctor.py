"""`cactus doctor`: what it finds, what it says to do, and its exit status."""

import re

import pytest

from cactus_core.errors import InvalidInput
from cactus_core.sampling import SamplingParams
from cactus_core.session import Limits, Served
from cluster.doctor.endpoint import Reached
from cluster.doctor.finding import Health
from cluster.doctor.machine import check_machine, check_packages
from cluster.doctor.pair import Heard, check_speed, check_vocabulary, check_worth
from cluster.doctor_cli import doctor
from cluster.planning.device_profile import DeviceProfile
from cluster.planning.drafted_along import DraftedAlong, WrittenText
from cluster.planning.profile_files import profile
from edge.drafting.ngram_drafter import NgramDrafter
from tests.integration.conftest import make_model

SERVED = Served("target", "0123456789abcdef", 128, 2048, Limits(), {}, {})


class FakeTokenizer:
    def __init__(self, fingerprint, vocab_size):
        self.fingerprint, self.vocab_size = fingerprint, vocab_size


@pytest.fixture(scope="module")
def endpoint():
    from tests.cluster.conftest import Cactus

    with Cactus().start("verifier", "--listen", "127.0.0.1:0", "--device", "cpu") as process:
        line = process.stdout.readline()
        yield "127.0.0.1:" + re.search(r"port (\d+)", line)[1]
        process.terminate()
        process.communicate(timeout=60)


def test_a_machine_is_told_by_its_packages_providers_cores_and_memory():
    findings = {finding.what: finding for finding in check_machine()}
    assert {"python", "packages, edge", "onnx", "gpu", "cores", "memory"} <= set(findings)
    assert "CPU" in findings["onnx"].says


def test_a_package_beyond_its_bounds_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr(
        "cluster.doctor.machine.requires", lambda name: ['numpy<2; extra == "edge"', 'nothing-like-it>=1; extra == "cloud"']
    )
    found = {finding.what: finding for finding in check_packages()}
    assert found["packages, edge"].health is Health.BAD
    assert re.search(r"numpy 2\.\S+, not <2", found["packages, edge"].says)
    assert found["packages, edge"].remedy == "pip install --upgrade 'cactus-serving[edge]'"
    assert found["packages, cloud"].health is Health.NOTE
    assert "nothing-like-it" in found["packages, cloud"].says


def test_another_vocabulary_is_bad_and_another_padding_is_well():
    drafter = NgramDrafter(160, max_positions=64)
    reached = Reached(SERVED, 0.01, None)
    (other,) = check_vocabulary(FakeTokenizer("f" * 16, 128), drafter, reached)
    assert other.health is Health.BAD
    assert other.remedy
    same = check_vocabulary(FakeTokenizer(SERVED.fingerprint, 120), drafter, reached)
    assert [finding.health for finding in same] == [Health.GOOD] * 2
    assert "pads them to 160, the target to 128" in same[1].says


def test_a_draft_that_knows_the_text_is_worth_its_while_and_one_that_does_not_is_said_to_be_off():
    reached = Reached(SERVED, 0.01, 1e7)
    repeated = WrittenText((1, 2, 3, 4, 5, 6, 7, 8) * 12, 16, SamplingParams(0.0), 1)
    told = DraftedAlong()
    told.add(NgramDrafter(128, max_positions=512), repeated)
    findings = check_worth(told, Heard(repeated, {1: 0.03, 17: 0.031}), reached)
    assert [finding.health for finding in findings] == [Health.GOOD] * 2
    assert float(re.match(r"[\d.]+", findings[1].says)[0]) > 2.0
    assert check_speed(told).health is Health.GOOD

    hopeless = DraftedAlong(reach={8: [[0] * 64]}, seconds={8: [0.01] * 4})
    findings = check_worth(hopeless, Heard(repeated, {1: 0.03, 17: 0.031}), reached)
    assert [finding.health for finding in findings] == [Health.NOTE] * 2
    assert "leave drafting off" in findings[1].remedy


def test_doctor_examines_a_pair_and_writes_a_profile_that_plan_reads(cactus, endpoint, draft, tmp_path):
    path = tmp_path / "mine.yaml"
    status, out, error = cactus.run("doctor", "--quick", "--endpoint", endpoint, "--draft", draft, "--profile", path)
    assert (status, error) == (0, ""), out
    for said in (
        "serves target",
        "round trip",
        "serving",
        "Mbit/s",
        "the same on both sides",
        "tokens a round",
        "times the cloud alone",
        "all is well",
    ):
        assert said in out, said
    assert profile(DeviceProfile, str(path)).draft_s


def test_doctor_ends_with_1_where_something_is_to_be_mended(cactus, endpoint, draft, tmp_path):
    make_model(tmp_path / "other", 5)
    for arguments, says in (
        (("--endpoint", "127.0.0.1:1", "--draft", tmp_path / "nothing"), ("cannot reach 127.0.0.1:1", "there is no", "2 to mend")),
        (("--endpoint", endpoint, "--draft", tmp_path / "other"), ("target's own family", "1 to mend")),
    ):
        status, out, error = cactus.run("doctor", "--quick", *arguments)
        assert (status, error) == (1, ""), (arguments, out)
        for said in says:
            assert said in out, out


def test_a_profile_needs_a_draft(tmp_path):
    with pytest.raises(InvalidInput, match="name one with --draft"):
        doctor(profile=tmp_path / "mine.yaml")


@pytest.mark.slow
def test_doctor_starts_a_ray_and_leaves_none(cactus):
    status, out, _ = cactus.run("doctor")
    assert status == 0
    assert "starts (1 node), and ends" in out
    assert cactus.left_running() == []
