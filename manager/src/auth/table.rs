//! The table.

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Also who has no certificate.
    Anyone,
    /// Every node of the cluster.
    Node,
    /// Every node of the cluster, even when its certificate has ended.
    Renew,
    /// Managers, for themselves.
    Manager,
    /// People at any node: looks, changes nothing.
    Read,
    /// People at managers; those at workers when the cluster's settings let them.
    Exec,
    /// People at managers: looks, changes nothing.
    Inspect,
    /// People at managers.
    Operate,
    /// The node's own socket.
    Local,
}

/// Every RPC, by its path.
pub const TABLE: &[(&str, Access)] = &[
    ("/clusterd.v1.Ca/GetRoot", Access::Anyone),
    ("/clusterd.v1.Ca/Issue", Access::Anyone),
    ("/clusterd.v1.Ca/Renew", Access::Renew),
    ("/clusterd.v1.Dispatch/Session", Access::Node),
    ("/clusterd.v1.Agent/Logs", Access::Manager),
    ("/clusterd.v1.Agent/Exec", Access::Manager),
    ("/clusterd.v1.Machine/NoteManagers", Access::Manager),
    ("/clusterd.v1.Machine/SetAddress", Access::Manager),
    ("/clusterd.v1.Raft/AppendEntries", Access::Manager),
    ("/clusterd.v1.Raft/StreamAppend", Access::Manager),
    ("/clusterd.v1.Raft/Vote", Access::Manager),
    ("/clusterd.v1.Raft/PreVote", Access::Manager),
    ("/clusterd.v1.Raft/InstallSnapshot", Access::Manager),
    ("/clusterd.v1.Raft/TransferLeader", Access::Manager),
    ("/clusterd.v1.Raft/Health", Access::Manager),
    ("/clusterd.v1.Raft/JoinRaft", Access::Manager),
    ("/clusterd.v1.Raft/LeaveRaft", Access::Manager),
    ("/clusterd.v1.Raft/Announce", Access::Manager),
    ("/clusterd.v1.Control/GetStatus", Access::Read),
    ("/clusterd.v1.Control/GetJoinTokens", Access::Operate),
    ("/clusterd.v1.Control/UpdateCluster", Access::Operate),
    ("/clusterd.v1.Control/InspectCluster", Access::Read),
    ("/clusterd.v1.Control/GetUnlockKey", Access::Operate),
    ("/clusterd.v1.Control/ListNodes", Access::Read),
    ("/clusterd.v1.Control/UpdateNode", Access::Operate),
    ("/clusterd.v1.Control/RemoveNode", Access::Operate),
    ("/clusterd.v1.Control/SetNodeRole", Access::Operate),
    ("/clusterd.v1.Control/SetNodeAddress", Access::Operate),
    ("/clusterd.v1.Control/GetCa", Access::Read),
    ("/clusterd.v1.Control/RotateCa", Access::Operate),
    ("/clusterd.v1.Control/ListNetworks", Access::Read),
    ("/clusterd.v1.Control/CreateNetwork", Access::Operate),
    ("/clusterd.v1.Control/RemoveNetwork", Access::Operate),
    ("/clusterd.v1.Control/ListStacks", Access::Read),
    ("/clusterd.v1.Control/DeployStack", Access::Operate),
    ("/clusterd.v1.Control/RemoveStack", Access::Operate),
    ("/clusterd.v1.Control/ListServices", Access::Read),
    ("/clusterd.v1.Control/ScaleService", Access::Operate),
    ("/clusterd.v1.Control/RemoveService", Access::Operate),
    ("/clusterd.v1.Control/ListTasks", Access::Read),
    ("/clusterd.v1.Control/ListBlobs", Access::Read),
    ("/clusterd.v1.Control/ReadConfig", Access::Inspect),
    ("/clusterd.v1.Control/CreateBlob", Access::Operate),
    ("/clusterd.v1.Control/UpdateBlob", Access::Operate),
    ("/clusterd.v1.Control/RemoveBlob", Access::Operate),
    ("/clusterd.v1.Control/Logs", Access::Read),
    ("/clusterd.v1.Control/Exec", Access::Exec),
    ("/clusterd.v1.Control/Backup", Access::Operate),
    ("/clusterd.v1.Control/NoteBackup", Access::Operate),
    ("/clusterd.v1.Control/ListBackups", Access::Read),
    ("/clusterd.v1.Control/SetBackupSchedule", Access::Operate),
    ("/clusterd.v1.Daemon/GetInfo", Access::Local),
    ("/clusterd.v1.Daemon/Init", Access::Local),
    ("/clusterd.v1.Daemon/Join", Access::Local),
    ("/clusterd.v1.Daemon/Leave", Access::Local),
    ("/clusterd.v1.Daemon/Unlock", Access::Local),
    ("/clusterd.v1.Daemon/LoadImage", Access::Local),
    ("/clusterd.v1.Daemon/PullImage", Access::Local),
    ("/clusterd.v1.Daemon/ListImages", Access::Local),
    ("/clusterd.v1.Daemon/RemoveImage", Access::Local),
    ("/clusterd.v1.Daemon/Restore", Access::Local),
    ("/clusterd.v1.Daemon/ForceNewCluster", Access::Local),
    ("/clusterd.v1.Daemon/UpdateSelf", Access::Local),
];

/// Who may make this call; none for one that is not in the table.
#[must_use]
pub fn access(path: &str) -> Option<Access> {
    TABLE
        .iter()
        .find(|(known, _)| *known == path)
        .map(|(_, access)| *access)
}
