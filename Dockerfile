# One image for api, worker, scheduler, webhooks and migrate: `docker run windlass api`.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/opt/windlass
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
# The dependencies change seldom: a layer of their own.
COPY pyproject.toml uv.lock README.md ./
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-dev --extra aws --extra docker --no-install-project
COPY app app
COPY schema schema
COPY workers workers
COPY migrations migrations
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-dev --extra aws --extra docker --no-editable

FROM python:${PYTHON}-slim
# pg_dump and pg_restore are what the postgres provider backs up and restores with.
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/windlass windlass
COPY --from=build /opt/windlass /opt/windlass
ENV PATH=/opt/windlass/bin:$PATH WINDLASS_DATA_DIR=/var/lib/windlass WINDLASS_HOST=0.0.0.0 WINDLASS_LOG_FORMAT=json
USER 10001
WORKDIR /var/lib/windlass
VOLUME /var/lib/windlass
EXPOSE 8080
ENTRYPOINT ["windlass"]
CMD ["api"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
