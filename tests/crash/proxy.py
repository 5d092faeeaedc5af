"""A TCP proxy between the server under test and what it talks to, which fails as networks do."""

import asyncio
import threading

CHUNK = 64 << 10


class Proxy:
    """Listens on a port of its own until `close`. `fault` is None, or one of:

    cut    every connection is reset and new ones are refused
    stall  nothing moves, nothing ends
    slow   100 KB a second, and a delay
    deaf   requests arrive, their answers are lost: whoever asked cannot know what was done
    """

    def __init__(self, host: str, port: int):
        self.upstream = host, port
        self.fault = None
        self.writers = set()
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def _run(self, started):
        asyncio.set_event_loop(self.loop)

        async def listen():
            self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.port = self.server.sockets[0].getsockname()[1]
            started.set()

        self.loop.run_until_complete(listen())
        self.loop.run_forever()

    def begin(self, fault):
        self.loop.call_soon_threadsafe(self._turn, fault)

    def end(self):
        self.loop.call_soon_threadsafe(self._turn, None)

    def _turn(self, fault):
        # Answers were lost: the connections they belong to are of no use any more, also when
        # another fault takes over. TCP never goes on after a hole.
        if self.fault == "deaf" or fault == "cut":
            self._reset()
        self.fault = fault

    def _reset(self):
        for writer in list(self.writers):
            writer.transport.abort()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self._reset()
        self.server.close()
        # What was aborted is closed in the loop's next turn.
        self.loop.run_until_complete(self._ended())
        self.loop.close()

    async def _ended(self):
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _accept(self, reader, writer):
        if self.fault == "cut":
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(*self.upstream)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back, False), self._pump(there, writer, True))
        finally:
            for one in (writer, back):
                self.writers.discard(one)
                one.transport.abort()

    async def _pump(self, reader, writer, answers):
        try:
            while data := await reader.read(CHUNK):
                while self.fault == "stall":
                    await asyncio.sleep(0.02)
                if self.fault == "slow":
                    await asyncio.sleep(0.02 + len(data) / 100_000)
                if self.fault == "deaf" and answers:
                    continue
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except (OSError, RuntimeError):
            writer.transport.abort()
