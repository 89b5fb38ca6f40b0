# One image for every process of Airflow with airflow-mlpipe, and for the containers that stage and collect in pods.
#
#   docker build -t airflow-mlpipe:0.1.0 .
#
# EXTRAS are those of setup.cfg. PYTHON is the base image: name a mirror, or a newer patch release, with --build-arg.
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS build
ARG EXTRAS=airflow,celery,demo,pandas,postgres,s3,azure,gcs,http,mount
WORKDIR /src
# The dependencies first: they are installed again only when they change.
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir airflow_mlpipe && touch airflow_mlpipe/__init__.py \
 && python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"
COPY airflow_mlpipe airflow_mlpipe
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --force-reinstall .

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
COPY plugins plugins
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
