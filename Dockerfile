# The workers and the command line, without torch and without the demo's broker.
#
#     docker build -t tastestream .
#     docker run --rm -e TASTESTREAM_BROKER=kafka://broker:9092 -v tastestream-embed:/data tastestream worker embed
#
# A worker keeps its state in /data. Each worker needs a volume of its own.

FROM python:3.12-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
RUN python -m venv /opt/tastestream

# Dependencies have a layer of their own: a change of the code does not install them again. The lock file pins every version
# and hash; `make lock` writes it. Wheels only: there is no compiler here.
COPY requirements/run.txt ./
RUN /opt/tastestream/bin/pip install --quiet --only-binary=:all: --require-hashes --requirement run.txt

COPY . .
RUN /opt/tastestream/bin/pip install --quiet --no-deps . \
    && /opt/tastestream/bin/pip check


FROM python:3.12-slim-bookworm

# A fixed number, so that a volume keeps its owner from one image to the next.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tastestream \
    && install --directory --owner=tastestream --group=tastestream --mode=0750 /data

COPY --from=build /opt/tastestream /opt/tastestream

ENV PATH=/opt/tastestream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    TASTESTREAM_DATA_DIR=/data

USER 10001:10001
WORKDIR /opt/tastestream
VOLUME /data

ENTRYPOINT ["tastestream"]
CMD ["--help"]
