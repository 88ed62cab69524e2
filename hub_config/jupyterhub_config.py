"""The hub as `make hub` and the compose file run it; a starting point for a site's own configuration.

What differs between the two comes from the environment. A site replaces the authenticator, the policy
and the address, and deletes what it does not need.
"""

import os
from pathlib import Path

from ds01spawner import configure
from ds01spawner.demo import ACCOUNTS, DemoAuthenticator

c = get_config()  # noqa: F821
here = Path(__file__).resolve().parent
state = Path(os.environ.get("DS01_STATE_DIR", "/var/lib/ds01"))
port = int(os.environ.get("PORT", "8000"))
hub_id = os.environ.get("DS01_HUB_ID", "hub")  # unique among the hubs of one engine

# --- where the hub listens ----------------------------------------------------------------------
# Sessions live on a network of their own, on which they reach the hub at the gateway and never each
# other; `configure` makes it. Only the proxy listens at an address that people open.
c.JupyterHub.bind_url = f"http://127.0.0.1:{port}"
c.JupyterHub.hub_port = port + 81
c.DS01Spawner.network_name = os.environ.get("DS01_NETWORK", "ds01")
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{port + 1}"
if token_file := os.environ.get("DS01_PROXY_TOKEN_FILE"):
    # The proxy is a service of its own: people keep their connection to a session while the hub restarts.
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.auth_token = Path(token_file).read_text().strip()

# --- a hub that goes away leaves the sessions alone -----------------------------------------------
c.JupyterHub.cleanup_servers = False
c.JupyterHub.db_url = f"sqlite:///{state / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.JupyterHub.concurrent_spawn_limit = 500  # starts take turns, so a whole class may wait
c.JupyterHub.allow_named_servers = True
c.JupyterHub.named_server_limit_per_user = 10  # the policy's `session.max` is the limit people meet

# --- who may log in -------------------------------------------------------------------------------
c.JupyterHub.authenticator_class = DemoAuthenticator
c.DemoAuthenticator.password = os.environ.get("DS01_DEMO_PASSWORD", "")
c.Authenticator.allowed_users = set(ACCOUNTS)
c.Authenticator.admin_users = {"admin"}
c.JupyterHub.load_groups = {
    "students": {"users": ["alice", "bob"]},
    "instructors": {"users": ["teacher"]},
}

# --- sessions -------------------------------------------------------------------------------------
c.DockerSpawner.image = os.environ.get("DS01_IMAGE", "ds01/lab:latest")
c.DockerSpawner.pull_policy = "never" if c.DockerSpawner.image.startswith("ds01/") else "ifnotpresent"
c.Spawner.http_timeout = 120

c.DS01Spawner.state_dir = str(state)
c.DS01Spawner.hub_id = hub_id
c.DS01Spawner.policy_file = str(here / "policy.yaml")
c.DS01Spawner.environments_file = str(here / "environments.yaml")
c.DS01Spawner.workspace_root = os.environ.get("DS01_WORKSPACE_ROOT", "/srv/ds01/workspaces")
c.DS01Spawner.workspace_host_root = os.environ.get("DS01_WORKSPACE_HOST_ROOT", "")
c.DS01Spawner.project_templates = str(here / "templates")
c.DS01Spawner.devices = os.environ.get("DS01_DEVICES", "auto")
c.DS01Spawner.inventory_file = str(here / "gpus.yaml")
if os.geteuid() != 0:
    # Without root, folders cannot be given to other accounts: all sessions run as this one.
    c.DS01Spawner.identity = f"{os.getuid()}:{os.getgid()}"

configure(c)
