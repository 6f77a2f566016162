"""TLS in front of a server on this machine. Prints its port.

    python tls.py CERTIFICATE KEY PORT
"""

import asyncio
import ssl
import sys

certificate, key, port = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(reader, writer):
    try:
        reader_of_server, writer_of_server = await asyncio.open_connection("127.0.0.1", int(port))
    except OSError:
        writer.close()
        return
    await asyncio.gather(copy(reader, writer_of_server), copy(reader_of_server, writer))


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
