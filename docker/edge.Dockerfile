# A client that drafts for itself: no PyTorch, no Ray.
FROM python:3.12-slim
WORKDIR /cactus
COPY pyproject.toml README.md LICENSE ./
COPY cactus_core cactus_core
COPY edge edge
COPY cloud cloud
COPY cluster cluster
COPY benchmarks benchmarks
RUN pip install --no-cache-dir '.[edge]'
COPY models/demo/draft models/demo/draft
RUN useradd --create-home cactus
USER cactus
