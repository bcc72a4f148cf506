"""A cluster on real Ray is scraped in one place: what each part tells, with the part's name."""

import re
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow  # Ray starts: half a minute
NUM_TOKENS = 12


def scraped(port):
    """Of each part, by its name: samples by their names and the other labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = [*text_string_to_metric_families(answer.read().decode())]
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = dict(sample.labels)
        part = labels.pop("part")
        found.setdefault(part, {})[sample.name, *labels.values()] = sample.value
    return found


def test_each_part_of_a_cluster_tells_what_it_did_under_its_own_name(cactus):
    arguments = ["--listen", "127.0.0.1:0", "--device", "cpu", "--replicas", 2, "--metrics", "127.0.0.1:0"]
    with cactus.start("up", *arguments) as process:
        try:
            lines = []
            while not any(line.startswith("look: ") for line in lines):
                lines.append(process.stdout.readline())
                assert lines[-1], process.stderr.read()
            told = "".join(lines)
            port, endpoint = re.search(r"metrics of all parts on port (\d+)", told)[1], re.search(r"--endpoint (\S+)", told)[1]
            before = scraped(port)
            status, _, error = cactus.run("generate", "def main(", "--endpoint", endpoint, "--max-tokens", NUM_TOKENS)
            assert status == 0, error
            after = scraped(port)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    replicas = [part for part in before if part.startswith("replica")]
    (gateway,) = (part for part in before if part.startswith("gateway"))
    assert len(replicas) == 2
    assert all(parts["cactus_part_up",] == 1 for parts in (*before.values(), *after.values()))
    assert all(before[part]["cactus_emitted_tokens_total",] == 0 for part in replicas)
    emitted = sorted(after[part]["cactus_emitted_tokens_total",] for part in replicas)
    assert emitted[0] == 0  # one replica wrote the text, the other none of it
    assert emitted[1] >= NUM_TOKENS  # a text may end at the edge before what was under way does
    decided = sum(after[part]["cactus_decisions_total",] for part in replicas)
    assert 0 < after[gateway]["cactus_gateway_decisions_total",] <= decided
    assert after[gateway]["cactus_gateway_streams_opened_total",] == 1
    assert after[gateway]["cactus_gateway_replicas",] == 2
    assert cactus.left_running() == []
