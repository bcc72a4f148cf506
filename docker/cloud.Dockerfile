# The cloud's side: `cactus up` on the head of a Ray cluster, replicas on its nodes (manifests/), or all of it in one container.
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
COPY models/demo/target models/demo/target
RUN useradd --create-home cactus
USER cactus
