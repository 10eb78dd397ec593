"""nginx serving a folder: the plainest way to put Zarr on a network. TensorStore reads from it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from peers.service import Service

CONFIGURATION = """
worker_processes 2;
pid {scratch}/nginx.pid;
error_log {scratch}/error.log;
daemon off;
{user}
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_body_temp_path {scratch}/body;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi;
  scgi_temp_path {scratch}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""


def missing() -> str | None:
    """Tell why it cannot run here; None when it can."""
    return None if program() else "nginx is not installed (on Debian: apt-get install nginx-light)"


def program() -> str | None:
    """Return the path of nginx; Debian keeps it off the path of users."""
    return shutil.which("nginx", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


class Server(Service):
    """nginx serving the files in `folder`."""

    def __init__(self, folder: Path) -> None:
        def command(scratch: Path, port: int) -> list[str]:
            # Its workers must be able to read what only we may.
            user = "user root;" if os.geteuid() == 0 else ""
            text = CONFIGURATION.format(scratch=scratch, port=port, folder=folder, user=user)
            (scratch / "nginx.conf").write_text(text)
            return [program() or "nginx", "-c", str(scratch / "nginx.conf"), "-e", str(scratch / "error.log")]

        super().__init__(command)
