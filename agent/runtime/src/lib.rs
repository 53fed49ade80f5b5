//! OCI containers under a shim that outlives the daemon: run, stop, exec, logs.
