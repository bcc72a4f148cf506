from __future__ import annotations

import pytest

from tests.cluster.access.authority import Authority
from tests.cluster.access.stub_verifier import StubVerifier


@pytest.fixture(autouse=True)
def _no_token_of_ours(monkeypatch):
    monkeypatch.delenv("CACTUS_TOKEN", raising=False)


@pytest.fixture
def stub():
    return StubVerifier()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)
