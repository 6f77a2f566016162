"""A package index that asks for a password: pypiserver, of this folder, for whoever is in this file. Prints its port.

    python index.py FOLDER USER=PASSWORD...
"""

import os
import socketserver
import sys
import tempfile
from wsgiref import simple_server

import pypiserver
from passlib.apache import HtpasswdFile


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True


class Handler(simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


folder, users = sys.argv[1], sys.argv[2:]
passwords = HtpasswdFile(os.path.join(tempfile.mkdtemp(dir=folder), "htpasswd"), new=True)
for user in users:
    passwords.set_password(*user.split("=", 1))
passwords.save()
app = pypiserver.app(
    roots=[folder], password_file=passwords.path, authenticate=["download", "list", "update"], disable_fallback=True
)
server = simple_server.make_server("127.0.0.1", 0, app, Server, Handler)
print(server.server_port, flush=True)
server.serve_forever()
