"""Run the server of `ladder serve`."""

import importlib.util
import socket
from pathlib import Path

from ladder.pipeline.errors import UserError

PACKAGES = ("fastapi", "uvicorn")


def serve(folders: list[Path], host: str, port: int, max_tokens: int) -> None:
    """Load rungs and serve them until the process is interrupted. port: 0 takes a free one.

    Errors: UserError without fastapi and uvicorn, or if the address cannot be used.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"serve: {' and '.join(missing)} not installed; expected the extra serve. Run `make extra-serve`."
        )
    listening = _listen(host, port)  # before the rungs are loaded, which takes longer
    import uvicorn

    from ladder.ship.server import build_app, is_loopback
    from ladder.ship.speaker import Speaker

    speakers = [Speaker(folder) for folder in folders]
    app = build_app(speakers, max_tokens=max_tokens, host=host)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    print(f"{' and '.join(one.name for one in speakers)}: chat at {address}/, OpenAI's API at {address}/v1", flush=True)
    if not is_loopback(host):
        print("no authentication: anyone who reaches this address can use the rungs", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error.strerror or error}. Choose another.") from None
