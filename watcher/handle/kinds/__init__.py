"""The kinds of handlers, a file each; the table of them is `watcher.handle.handler_kinds`."""
