# The hub and its proxy, for docker-compose.yml. BASE is any Debian or Ubuntu with python3, venv and pip:
#   make images && BASE=ds01/base:latest docker compose build     (needs no container registry)
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS proxy
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm
# Node has a list of certificate authorities of its own; the system's may know more (a site's proxy).
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
RUN npm install --prefix /opt/proxy --no-fund --no-audit configurable-http-proxy@5

FROM ${BASE} AS python
RUN python3 -m venv /opt/hub
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY ds01spawner ds01spawner
COPY templates templates
ARG JUPYTERHUB_VERSION=6.1.1
RUN /opt/hub/bin/pip install --no-cache-dir "jupyterhub==${JUPYTERHUB_VERSION}" .

FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends nodejs tini \
    && rm -rf /var/lib/apt/lists/*
COPY --from=proxy /opt/proxy /opt/proxy
COPY --from=python /opt/hub /opt/hub
COPY hub_config /srv/ds01/config
COPY scripts/compose-proxy /usr/local/bin/compose-proxy
ENV PATH=/opt/hub/bin:/opt/proxy/node_modules/.bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    DS01_STATE_DIR=/var/lib/ds01 \
    DS01_PROXY_TOKEN_FILE=/var/lib/ds01/proxy-token
WORKDIR /var/lib/ds01
VOLUME /var/lib/ds01
ENTRYPOINT ["tini", "--"]
CMD ["jupyterhub", "-f", "/srv/ds01/config/jupyterhub_config.py"]
