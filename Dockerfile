# One image for every process of Airflow with airflow-mlpipe, and for the containers that stage and collect in pods.
#
#   docker build -t airflow-mlpipe:0.1.0 .
#
# EXTRAS are those of setup.cfg. PYTHON is the base image: name a mirror, or a newer patch release, with --build-arg.
ARG PYTHON=python:3.11.16-slim-bookworm

FROM ${PYTHON} AS build
ARG EXTRAS=airflow,celery,demo,pandas,postgres,s3,azure,gcs,http,mount
# Of a mirror of PyPI, where there is one.
ARG PIP_INDEX_URL
WORKDIR /src
ENV UV_SYSTEM_CERTS=true UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1
RUN python -m venv /opt/uv \
 && /opt/uv/bin/pip install --no-cache-dir uv \
 && python -m venv --without-pip /opt/venv
# The dependencies first: they are installed again only when they change.
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
RUN /opt/uv/bin/uv pip install --python /opt/venv/bin/python ${PIP_INDEX_URL:+--default-index "${PIP_INDEX_URL}"} \
 -c constraints.txt -r setup.cfg $(printf -- '--extra %s ' $(echo "${EXTRAS}" | tr , ' '))
COPY airflow_mlpipe airflow_mlpipe
RUN /opt/uv/bin/uv pip install --python /opt/venv/bin/python ${PIP_INDEX_URL:+--default-index "${PIP_INDEX_URL}"} --no-deps .
# Finds what a build leaves behind.
LABEL airflow-mlpipe.stage=build

FROM ${PYTHON}
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends fuse3 tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 50000 --create-home airflow \
 && install -d -o airflow -g airflow -m 700 /var/lib/mlpipe \
 && install -d -o airflow -g airflow /opt/airflow /opt/airflow/logs
COPY --from=build /opt/venv /opt/venv
WORKDIR /opt/mlpipe
COPY dags dags
COPY examples examples
COPY deploy deploy
ENV PATH=/opt/venv/bin:$PATH \
    AIRFLOW_HOME=/opt/airflow \
    MLPIPE_WORKSPACE=/var/lib/mlpipe/.mlpipe \
    PYTHONUNBUFFERED=1
USER 50000:50000
# It ends the orphans of steps, and passes signals on.
ENTRYPOINT ["tini", "--"]
CMD ["airflow", "version"]
