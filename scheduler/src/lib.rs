//! Every decision of the cluster, as pure functions of its state and the time.
