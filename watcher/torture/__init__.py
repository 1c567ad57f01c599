"""`watcher torture`: which promises hold on a file system, found by trying and by killing.

In the order of reading:

file_system_facts,
contention          what the file system does: each fact is tried with real files and processes
chaos               writers, daemons and sweeps, killed and stopped at random times
processes           the processes that run, and their end with this process
writer,
checking_handler    what runs in the processes: they log each entry that they commit or handle
test_message,
event_log           a message that carries its own digest; one line for each event
verdict, account    PURE: the account of all entries, and the promises in plain words
workdir             the directory in which all of this happens

No other part of the program imports this package.
"""
