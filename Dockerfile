# syntax=docker/dockerfile:1

# Two images from one file: `service`, for every process of ours, and `standin`, the Stripe stand-in.
#
#   docker build --target service -t billing-reference:0.2.0.dev0 .
#
# A tag can be moved to other bytes. To pin those, add the digest that this prints: python:3.11-slim@sha256:...
#   docker buildx imagetools inspect python:3.11-slim
ARG PYTHON=python:3.11-slim


# The tools for building stay in the build stages: only /opt/venv is copied. Every package is checked by its hash, also
# the one that builds our own packages. Nothing is compiled: if a wheel is missing, the build fails.
FROM ${PYTHON} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_REQUIRE_HASHES=1
WORKDIR /build
RUN python -m venv /opt/builder && python -m venv --without-pip /opt/venv

COPY requirements/build.lock requirements/
RUN /opt/builder/bin/pip install -r requirements/build.lock


FROM builder AS build
# Before our own code, so that these layers stay cached.
COPY requirements/product.lock requirements/
RUN /opt/builder/bin/pip --python /opt/venv install -r requirements/product.lock

COPY LICENSE README.md pyproject.toml ./
COPY archive/ archive/
COPY billing/ billing/
COPY jobs/ jobs/
RUN /opt/builder/bin/hatchling build -t wheel -d /wheel \
    && PIP_REQUIRE_HASHES=0 /opt/builder/bin/pip --python /opt/venv install --no-deps --no-index /wheel/*.whl


# The stand-in is its own distribution: its image has nothing of the service, and the service's image has nothing of
# it.
FROM builder AS build-standin
COPY stripe_standin/requirements.lock ./
RUN /opt/builder/bin/pip --python /opt/venv install -r requirements.lock

COPY stripe_standin/LICENSE stripe_standin/README.md stripe_standin/pyproject.toml ./
COPY stripe_standin/src/ src/
RUN /opt/builder/bin/hatchling build -t wheel -d /wheel \
    && PIP_REQUIRE_HASHES=0 /opt/builder/bin/pip --python /opt/venv install --no-deps --no-index /wheel/*.whl


FROM ${PYTHON} AS runtime
# The user has a number, so that a container engine can see that it is not root, and a name, for libraries that need
# one.
RUN groupadd --gid 10001 billing \
    && useradd --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin billing
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Empty: commands look for `billing.toml` in the working directory.
WORKDIR /srv
USER 10001:10001


FROM runtime AS standin
COPY --from=build-standin /opt/venv /opt/venv
ENTRYPOINT ["stripe-standin"]


# The last stage is what `docker build .` makes.
FROM runtime AS service
COPY --from=build /opt/venv /opt/venv
ENTRYPOINT ["billing"]
CMD ["--help"]
