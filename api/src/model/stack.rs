//! A stack: what one Compose file asked for.

use super::{BlobFile, BlobKey, BlobSpec, Labels, Meta, NetworkSpec, ServiceSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A stack as the state keeps it. Its services, networks, secrets and configs carry its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Unique in the cluster.
    pub name: String,
    /// Revision and times.
    pub meta: Meta,
    /// Names of its volumes (`stack_name`), kept on the nodes after it is removed.
    pub volumes: Vec<String>,
}

/// What one Compose file asks for, before ids: networks, secrets and configs are named. Made by [`crate::manifest`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StackSpec {
    /// The stack's name.
    pub name: String,
    /// Networks to be made, by their full name.
    pub networks: BTreeMap<String, NetworkSpec>,
    /// Networks that have to be there already (`external: true`), by their full name.
    pub external_networks: Vec<String>,
    /// Volumes, by their full name, with their labels.
    pub volumes: BTreeMap<String, Labels>,
    /// Secrets and configs to be made, in the order of their keys.
    pub blobs: Vec<BlobSpec>,
    /// Secrets and configs that have to be there already (`external: true`).
    pub external_blobs: Vec<BlobKey>,
    /// Services, by their full name.
    pub services: BTreeMap<String, StackService>,
}

/// One service of a stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackService {
    /// The service; its `template.networks` and `template.blobs` are empty and filled from the fields below.
    pub spec: ServiceSpec,
    /// Full names of its networks, with the service's further names on each (the short name among them).
    pub networks: BTreeMap<String, Vec<String>>,
    /// Its files of secrets and configs.
    pub blobs: Vec<BlobFile>,
}
