# A node of a Ray cluster that serves, for manifests/: `cactus up` on the head, replicas on the workers.
# On x86-64 Linux pip's PyTorch comes with CUDA: a few GB, and it runs on a CPU too.
FROM python:3.12-slim
WORKDIR /cactus
COPY pyproject.toml README.md LICENSE ./
COPY cactus_core cactus_core
COPY edge edge
COPY cloud cloud
COPY cluster cluster
COPY benchmarks benchmarks
# ray[default] has what Ray's launcher and KubeRay ask of a node: its dashboard's agent, and the autoscaler.
RUN pip install --no-cache-dir '.[cluster]' 'ray[default]==2.60.0'
RUN useradd --create-home cactus
USER cactus
