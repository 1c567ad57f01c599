"""Kill a command of watcher at every system call, or refuse the call; find what is lost."""
