"""TCP sessions of a server, each a coroutine, all ended together.

Claim: after `Listener.close` no session is left and none was torn off by cancelling: each saw its connection end.
(asyncio up to 3.12 prints a traceback for a session of ``start_server`` that is cancelled.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Listens on any number of addresses and runs ``session`` for each connection.

    limit: octets that a reader holds for one line. The connection is closed when the session returns; a session
    takes `ConnectionError` and `asyncio.IncompleteReadError` for what they are, the other side going.
    """

    def __init__(self, session: Session, limit: int = 2**16) -> None:
        self._session, self._limit = session, limit
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, address: str, port: int) -> int:
        """Listen; gives the port (useful with 0). Raises `OSError`."""
        server = await asyncio.start_server(self._run, address, port, limit=self._limit)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, break the connections that are open and wait for their sessions."""
        for server in self._servers:
            server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # a coroutine runs in one
        self._open[task] = writer
        try:
            await self._session(reader, writer)
        finally:
            del self._open[task]
            writer.close()
