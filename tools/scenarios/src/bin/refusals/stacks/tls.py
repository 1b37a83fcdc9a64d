"""A TLS client or server of Python: tls.py client|server key=value…

port; version: 1.2, 1.3; cert, key: what it shows; ca: what it trusts (without it: anybody, or no client certificate
is asked for); name: whom the client expects; alpn.
"""

import socket
import ssl
import sys
import threading

role = sys.argv[1]
options = dict(argument.split("=", 1) for argument in sys.argv[2:])
PORT = int(options["port"])
VERSION = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[options["version"]]
SECONDS = 5


def context(protocol):
    tls = ssl.SSLContext(protocol)
    tls.minimum_version = tls.maximum_version = VERSION
    if "cert" in options:
        tls.load_cert_chain(options["cert"], options["key"])
    if "alpn" in options:
        tls.set_alpn_protocols(options["alpn"].split(","))
    tls.check_hostname = "ca" in options and role == "client"
    tls.verify_mode = ssl.CERT_REQUIRED if "ca" in options else ssl.CERT_NONE
    if "ca" in options:
        tls.load_verify_locations(options["ca"])
    return tls


def request():
    tls = context(ssl.PROTOCOL_TLS_CLIENT)
    with socket.create_connection(("127.0.0.1", PORT), SECONDS) as stream:
        with tls.wrap_socket(stream, server_hostname=options["name"]) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            print(stream.recv(4096).decode().splitlines()[0])


def answer(tls, stream):
    try:
        stream.settimeout(SECONDS)
        with tls.wrap_socket(stream, server_side=True) as stream:
            if stream.recv(4096):
                stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    except OSError as error:
        print(error, file=sys.stderr)


def serve():
    tls = context(ssl.PROTOCOL_TLS_SERVER)
    with socket.create_server(("127.0.0.1", PORT)) as listener:
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=answer, args=(tls, stream), daemon=True).start()


{"client": request, "server": serve}[role]()
