"""The tiny single-user server: a shell and a web server in two megabytes, up in milliseconds.

It writes a file that must be found byte for byte afterwards, and does what it is asked by
``GET /cgi-bin/do?WHAT``: ``exit+7``, or ``memory`` (allocates past its limit). ``.how`` in its project
says beforehand whether it boots slowly or ignores the request to end.
"""

from __future__ import annotations

LINES = 300
SCRIPT = f"""
boots=0 deaf=0
[ -r /workspace/.how ] && . /workspace/.how
seq 1 {LINES} > /workspace/data-$DS01_SESSION
echo $$ > /tmp/pid
mkdir -p /tmp/w/cgi-bin
cat > /tmp/w/cgi-bin/do <<'EOF'
#!/bin/sh
echo "$QUERY_STRING" | tr + ' ' > /tmp/do
kill -USR1 $(cat /tmp/pid)
printf 'Content-Type: text/plain\\r\\n\\r\\nyes\\n'
EOF
chmod 755 /tmp/w/cgi-bin/do
[ "$deaf" = 1 ] && trap '' TERM || trap 'exit 0' TERM
trap : USR1
sleep $boots
httpd -f -p 8888 -h /tmp/w &
while :; do
    if [ -s /tmp/do ]; then
        read what code < /tmp/do
        [ "$what" = exit ] && exit $code
        [ "$what" = memory ] && trap '' USR1 && exec tail /dev/zero
    fi
    sleep 5 & wait $!
done
"""


def written() -> bytes:
    """What each session's file holds."""
    return "".join(f"{n}\n" for n in range(1, LINES + 1)).encode()


def how(boots: float, deaf: bool) -> str:
    """What ``.how`` says."""
    return f"boots={boots} deaf={int(deaf)}\n"
