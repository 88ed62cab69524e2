#!/bin/sh
# Add what a session needs to any base image, apart from the user's own packages: a virtual environment in
# /opt/ds01 with jupyterhub-singleuser and JupyterLab. The Python found on the PATH stays the user's and
# becomes the kernel. Run as root in a build; needs apt only where the base has no Python.
set -eu
layer=/opt/ds01
here=$layer/layer

say() { echo "ds01: $*"; }
refuse() { echo "ds01: refused: $*" >&2; exit 65; }
quietly_apt() {
    command -v apt-get >/dev/null 2>&1 || return 1
    say "installing $* with apt"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    rm -rf /var/lib/apt/lists/*
}

user_python=$(command -v python3 || command -v python || true)
if [ -z "$user_python" ]; then
    quietly_apt python3 python3-venv python3-pip ca-certificates ||
        refuse "this base has no Python and no apt; start from one that has Python 3.10 or newer"
    user_python=$(command -v python3)
fi
"$user_python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    refuse "its $("$user_python" --version) is too old for the session server; Python 3.10 or newer is needed"
say "the kernel is $user_python ($("$user_python" --version 2>&1))"

make_environment() {
    rm -rf "$layer/bin" "$layer/lib" "$layer/include" "$layer/lib64" "$layer/pyvenv.cfg"
    "$user_python" -m venv "$layer" >/dev/null 2>&1
}
if ! make_environment; then
    quietly_apt python3-venv python3-pip || say "no apt to bring venv with"
    if ! make_environment; then
        rm -rf "$layer/bin" "$layer/lib"
        "$user_python" -m venv --without-pip "$layer" || refuse "its Python has no venv module"
        "$user_python" -m pip --python "$layer/bin/python" install -q pip ||
            refuse "its Python has neither ensurepip nor pip"
    fi
fi
if ! "$user_python" -m pip --version >/dev/null 2>&1; then
    "$user_python" -m ensurepip >/dev/null 2>&1 || quietly_apt python3-pip ||
        say "no pip for the user's Python: packages can be added with conda or apt only"
fi

say "installing the session server"
"$layer/bin/python" -m pip install -q --no-cache-dir --disable-pip-version-check -r "$here/requirements.txt"
"$layer/bin/python" "$here/place.py" "$user_python"
"$layer/bin/python" -m pip uninstall -q -y pip setuptools 2>/dev/null || true

mkdir -p /workspace && chmod 1777 /workspace
chmod -R a+rX "$layer"
say "the session layer is in place"
