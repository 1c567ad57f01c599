"""NATS JetStream: the connection, the streams, and what is stored in them for `watcher work`."""
