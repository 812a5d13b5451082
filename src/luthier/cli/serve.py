"""``luthier serve``: a finished model behind HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from luthier.cli import options as o


def serve(
    place: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="A run folder, a model folder, an export, or the name of a deployment."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine's need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8080,
    token_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Tokens that open, one a line, 16 characters or more.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A name under which it may be asked, beside localhost; repeatable."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that share the port.")] = 1,
    max_batch: Annotated[int, typer.Option(help="Inputs a batch at most.")] = 32,
    queue: Annotated[int, typer.Option(help="Inputs that wait at most; further ones are told 429.")] = 1024,
    timeout: Annotated[
        float, typer.Option(help="Seconds after which a request is given up with 504.")
    ] = 30.0,
    drain: Annotated[
        float, typer.Option(help="Seconds in which accepted requests are finished when it is stopped.")
    ] = 30.0,
    name: Annotated[str | None, typer.Option(help="The model's name; the folder's if not given.")] = None,
    backend: Annotated[
        str, typer.Option(help="auto, torch or onnx; auto takes the faster of those that are there.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="For torch: auto, cpu, cuda or mps.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads a worker; its share of the cores if not given.")
    ] = None,
    connections: Annotated[int, typer.Option(help="Connections at a time at most, a worker.")] = 1000,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log a line for each request.")] = False,
    registry: o.Registry = None,
    probation: Annotated[
        float,
        typer.Option(help="Seconds in which the server takes a new version back if it fails or is slow."),
    ] = 600.0,
    probation_errors: Annotated[
        float, typer.Option(metavar="SHARE", help="Of its requests that may fail meanwhile.")
    ] = 0.02,
    probation_slower: Annotated[
        float,
        typer.Option(metavar="TIMES", help="So many times the latency of the version before it may have."),
    ] = 2.0,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Record what is answered, for luthier monitor: a path or a database URL."
        ),
    ] = None,
    keep_inputs: Annotated[
        bool, typer.Option("--keep-inputs", help="Record the inputs, too; they may be personal.")
    ] = False,
    record_share: Annotated[float, typer.Option(help="Share of requests that are recorded.")] = 1.0,
) -> None:
    """Serve a finished model over HTTP."""
    from luthier.deploy.serve.server import serve as run
    from luthier.deploy.serve.settings import ServeSettings

    settings = ServeSettings(
        place, host=host, port=port, token_file=token_file, allow_hosts=tuple(allow_host or ()),
        workers=workers, max_batch=max_batch, queue=queue, timeout=timeout, drain=drain, name=name,
        backend=backend, device=device, threads=threads, connections=connections, access_log=access_log,
        registry=registry, probation=probation, probation_errors=probation_errors,
        probation_slower=probation_slower,
        record=record, keep_inputs=keep_inputs, record_share=record_share,
    )  # fmt: skip
    raise typer.Exit(run(settings))


VERB = serve
