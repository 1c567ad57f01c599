"""`watcher list`: the entries of a queue, by state."""

from __future__ import annotations

import click

from watcher.cli import options

STATES = ("arriving", "ready", "claimed", "deferred", "held", "dead", "orphan")


@click.command("list")
@click.argument("queue_dir")
@options.queue_options
@click.option("--state", type=click.Choice(STATES), help="Only the entries of this state.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(
    queue_dir: str, config: str | None, state: str | None, as_json: bool, **flags: object
) -> None:
    """List the entries of a queue, a line each: state, age, size, name, and what is known.

    In the order of the directory, so that any number can be listed at once.
    """
    import json

    from watcher.claim.lease import ignore_sigio
    from watcher.durations import show
    from watcher.inspect.census import census
    from watcher.lifecycle import State
    from watcher.spool.layout import display

    ignore_sigio()
    spool = options.open_spool(options.settings_for(queue_dir, config, flags))
    for found in census(spool, None if state is None else State(state)):
        if as_json:
            record = {
                "state": found.state.value,
                "entry": display(found.name),
                "files": [display(name) for name in found.files],
                "size": found.size,
                "age": round(found.age, 3),
                "why": found.why,
            }
            click.echo(json.dumps(record))
        else:
            why = f"  {' '.join(found.why.split())}" if found.why else ""
            age = show(found.age)
            click.echo(
                f"{found.state.value:<9}{age:>8}{found.size:>10}  {display(found.name)}{why}"
            )
