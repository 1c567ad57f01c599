"""`watcher torture`: what a file system keeps of the promises, by trying and by killing.

In the order of reading:

facts, contention   what the file system does: each tried with real files and real processes
storm               writers, daemons and sweeps, killed and stopped at random moments
crew                the processes, and that none outlives us
writer, handler     what runs in them: entries that can be told apart, and noted in the books
letter, books       PURE: a message that proves itself; one line a thing that happened
verdict, account    PURE: the books balanced, and the promises in plain words

No module of the rest of the program knows this package.
"""
