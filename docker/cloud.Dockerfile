# The verifier, and the gateway before it. On x86-64 Linux pip's PyTorch comes with CUDA: a few GB, and it runs on a CPU too.
FROM python:3.12-slim
WORKDIR /cactus
COPY pyproject.toml README.md LICENSE ./
COPY cactus_core cactus_core
COPY edge edge
COPY cloud cloud
COPY cluster cluster
COPY benchmarks benchmarks
RUN pip install --no-cache-dir '.[cloud]'
COPY models/demo/target models/demo/target
RUN useradd --create-home cactus
USER cactus
