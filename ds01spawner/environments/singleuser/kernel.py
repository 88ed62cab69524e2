"""Start ipykernel on the user's Python.

What the user installed comes first, an ipykernel of their own included; the layer's is at the very end
of the path. Kept old-fashioned on purpose: it runs on any Python the user brings.
"""

import sys

if sys.path and sys.path[0] == "/opt/ds01/layer":
    del sys.path[0]
sys.path.append("/opt/ds01/kernel")

if __name__ == "__main__":
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
