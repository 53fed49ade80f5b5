//! What runs on a manager: control API, dispatcher, CA, leader loop, Raft network.
