"""Kill a command of watcher at every system call, or refuse the call, and see what is lost."""
