# The image of every Ray node and job: Ray's own, with fti-qdrant for ingest and training.
#   docker build --tag fti-qdrant .
#   docker build --tag fti-qdrant:gpu --build-arg BASE=rayproject/ray:2.60.0-py311-gpu .
ARG BASE=rayproject/ray:2.60.0-py311
FROM ${BASE}

WORKDIR /home/ray/fti-qdrant
COPY --chown=ray:users pyproject.toml README.md LICENSE NOTICE ./
COPY --chown=ray:users fti_qdrant fti_qdrant
COPY --chown=ray:users ingest ingest
COPY --chown=ray:users training training
# all nodes of a cluster must have one version of Ray: the base image's
RUN python -c 'import ray; print(f"ray=={ray.__version__}")' > /tmp/ray.txt \
    && pip install --no-cache-dir --constraint /tmp/ray.txt '.[cluster,train]'
WORKDIR /home/ray
