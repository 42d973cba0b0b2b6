# `occ-lab serve` on the CPU; docs/guides/deployment.md shows how to build and run it.
FROM python:3.12-slim AS build
# torch without CUDA, a tenth of the size
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/occ-lab
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY conf conf
COPY src src
RUN /opt/occ-lab/bin/python -m pip install --constraint constraints.txt '.[serve]'

FROM python:3.12-slim
COPY --from=build /opt/occ-lab /opt/occ-lab
RUN useradd --uid 10001 --create-home inspector \
    && install --directory --owner=inspector --group=inspector /results
# No byte of the container's own file system is written but in /results and /tmp.
ENV PATH=/opt/occ-lab/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    OCC_LAB_CACHE=/tmp/occ-lab
USER inspector
WORKDIR /results
VOLUME /results
EXPOSE 8000
# SIGTERM ends the service after the requests that have begun, within 30 seconds.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# The run directory is mounted at /run-dir, read-only; the token comes from OCC_LAB_TOKEN.
ENTRYPOINT ["occ-lab", "serve", "run=/run-dir", "host=0.0.0.0", "port=8000", "hydra.run.dir=/results"]
