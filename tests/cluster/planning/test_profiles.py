"""Profiles are checked as they are read, and what is amiss is said in one line with its file and its field."""

import math

import pytest

from cactus_core.errors import InvalidInput
from cluster.link_profile import LinkProfile
from cluster.planning.acceptance_curve import AcceptanceCurve
from cluster.planning.cost_table import CostTable
from cluster.planning.device_profile import DeviceProfile
from cluster.planning.profile_files import names, parsed, profile, written
from cluster.planning.verifier_profile import VerifierProfile

KINDS = (DeviceProfile, VerifierProfile, AcceptanceCurve, LinkProfile)


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_profile_is_read_under_its_own_name(kind):
    assert names(kind)
    for name in names(kind):
        assert profile(kind, name).name == name


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (DeviceProfile, "name: x\ndraft_s: {8: fast}", r"f\.yaml: draft_s\.8: input should be a valid number"),
        (DeviceProfile, "name: x\ndraft_s: {8: -1}", r"draft_s takes sizes of 0 and more to seconds of 0 and more"),
        (DeviceProfile, "name: x\ndraft_s: {8: .nan}", r"draft_s takes sizes"),
        (DeviceProfile, "name: x\ndraft_s: {8: 0.2, 16: 0.1}", r"draft_s falls from 0\.2 s at 8 to 0\.1 s at 16"),
        (DeviceProfile, "name: x\ndraft_s: {}", r"draft_s is empty"),
        (DeviceProfile, "name: x\ndraft_s: {8: 1}\nidle_w: -1", r"idle_w of a device must be 0 or more"),
        (DeviceProfile, "draft_s: {8: 1}", r"f\.yaml: name: field required"),
        (DeviceProfile, "[1, 2]", r"must hold the fields of a device profile: name, draft_s"),
        (DeviceProfile, "name: [", r"f\.yaml is not YAML"),
        (VerifierProfile, "name: x\nforward_ms: {1: 8}", r"a verifier profile has no field 'forward_ms'; its fields are name, forward_s"),
        (VerifierProfile, "name: x\nforward_s: {1: 0}", r"a step of this verifier takes no time"),
        (VerifierProfile, "name: x\nforward_s: {1: 1}\ntoken_budget: 0", r"token_budget of a verifier must be at least 1"),
        (AcceptanceCurve, "name: x", r"either reach or survival"),
        (AcceptanceCurve, "name: x\nsurvival: {8: [0.5, 0.6]}", r"survival of 8 nodes must be shares that fall"),
        (AcceptanceCurve, "name: x\nsurvival: {1: [0.5, 0.4]}", r"at most 1 of them"),
        (AcceptanceCurve, "name: x\nreach: {4: [[0, 9]]}", r"reach of 4 nodes must be texts of numbers from 0 to 4"),
        (LinkProfile, "name: x\nround_trip_s: 0.1\njitter_s: 3", r"f\.yaml: jitter_s of a link"),
    ],
)  # fmt: skip
def test_what_is_amiss_in_a_file_is_said_in_one_line(kind, text, says):
    with pytest.raises(InvalidInput, match=says) as raised:
        parsed(kind, text, "f.yaml")
    assert "\n" not in str(raised.value)


def test_a_profile_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(InvalidInput, match=r"no device profile 'toaster'.* laptop, phone"):
        profile(DeviceProfile, "toaster")
    with pytest.raises(InvalidInput, match=r"nothing\.yaml cannot be read"):
        profile(VerifierProfile, str(tmp_path / "nothing.yaml"))


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(written({"name": "mine", "draft_s": {8: 0.01}, "byte_j": 5e-06}, "Measured\nhere."), "utf8")
    assert profile(DeviceProfile, str(path)) == DeviceProfile("mine", {8: 0.01}, byte_j=5e-6)


def test_a_link_in_yaml_is_a_link():
    assert parsed(LinkProfile, "name: lte\nround_trip_s: 0.06\nup_bits_per_s: 1.0e+7", "f") == LinkProfile("lte", 0.06, up_bits_per_s=1e7)


def test_costs_lie_on_lines_between_what_was_measured_and_go_on_beyond():
    table = CostTable("x", {10: 1.0, 20: 2.0})
    assert [table.at(size) for size in (1, 10, 15, 20, 40)] == pytest.approx([1.0, 1.0, 1.5, 2.0, 4.0])
    assert CostTable("x", {10: 1.0}).at(100) == 1.0


def test_a_step_is_never_shorter_than_it_is_padded_to():
    verifier = VerifierProfile("x", {1: 0.008, 101: 0.018}, session_s=0.001, step_at_least_s=0.02)
    assert verifier.step_s(1, 1) == 0.02
    assert verifier.step_s(101, 10) == pytest.approx(0.028)
    assert verifier.num_free_tokens == pytest.approx(199)


def test_survival_is_of_the_trees_that_waiting_would_draft():
    """From place 0 a tree leads 2 on, so that the next starts at 3, and from there at 4."""
    curve = AcceptanceCurve("x", reach={4: [[2, 1, 0, 0, 1]]})
    assert curve.at(4)[:3].tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert curve.tokens_per_tree(4) == pytest.approx(2.0)
    assert math.isclose(AcceptanceCurve("x", survival={4: [0.5, 0.25]}).tokens_per_tree(4), 1.75)
