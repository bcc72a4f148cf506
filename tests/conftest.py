"""What every test runs under: no network, no noise, the same numbers each time. Set before any library reads it."""

import os

from hypothesis import settings

os.environ.update(
    GRPC_VERBOSITY="ERROR",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",  # torch's threads too
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    RAY_USAGE_STATS_ENABLED="0",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_VERBOSITY="error",
)

settings.register_profile("cactus", deadline=None, derandomize=True)  # a busy machine is no failure
settings.load_profile("cactus")
