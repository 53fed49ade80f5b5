//! Secrets and configs: made, labelled, removed.

use super::{Outcome, Run, missing, refuse, same_revision};
use crate::model::{Blob, BlobId, Labels, TaskTemplate};
use crate::state::ErrorKind;
use std::sync::Arc;

impl Run<'_> {
    pub(super) fn create_blob(&mut self, mut blob: Blob) -> Outcome {
        let (key, version) = (blob.spec.key(), blob.version);
        let taken = |by: &Blob| {
            let of = by.spec.stack.as_ref();
            let of = of.map_or_else(String::new, |stack| format!(", of stack {stack}"));
            refuse(ErrorKind::Taken, format!("{key} is there already{of}"))
        };
        if self.state.blobs.contains_key(&blob.id) {
            return refuse(ErrorKind::Taken, format!("{key} is there already"));
        }
        if (version == 0) != blob.spec.stack.is_none() {
            return refuse(
                ErrorKind::Invalid,
                format!("{key}: a stack's has a version from 1, another has none"),
            );
        }
        for other in self.state.blobs_named(&key) {
            if other.version == version || other.spec.stack != blob.spec.stack {
                return taken(other);
            }
        }
        if let Some(problem) = blob.spec.kind.refuse(blob.spec.data.as_bytes().len()) {
            return refuse(ErrorKind::Invalid, format!("{key}: {problem}"));
        }
        blob.meta = self.fresh();
        let event = self.state.set_blob(blob.id, Some(Arc::new(blob)));
        self.events.push(event);
        Ok(())
    }

    /// Its data never changes: tasks were started with it.
    pub(super) fn update_blob(&mut self, id: BlobId, labels: Labels, at_revision: u64) -> Outcome {
        let old = self.blob(id)?;
        same_revision(&old.spec.key().to_string(), old.meta.revision, at_revision)?;
        let mut new = (*old).clone();
        new.meta = self.touched(old.meta);
        new.spec.labels = labels;
        let event = self.state.set_blob(id, Some(Arc::new(new)));
        self.events.push(event);
        Ok(())
    }

    pub(super) fn remove_blob(&mut self, id: BlobId) -> Outcome {
        let key = self.blob(id)?.spec.key();
        let users: Vec<_> = self
            .state
            .blob_services(id)
            .map(|service| service.spec.name.as_str())
            .collect();
        if !users.is_empty() {
            return refuse(
                ErrorKind::InUse,
                format!(
                    "{key} is used by {}; take it out of these first",
                    users.join(", ")
                ),
            );
        }
        let held = self.state.blob_tasks(id).count();
        if held > 0 {
            return refuse(
                ErrorKind::InUse,
                format!(
                    "{key} is still used by {held} task(s) that have not ended; try again in a moment"
                ),
            );
        }
        let event = self.state.set_blob(id, None);
        self.events.push(event);
        Ok(())
    }

    fn blob(&self, id: BlobId) -> Result<Arc<Blob>, crate::state::ApplyError> {
        self.state
            .blobs
            .get(&id)
            .cloned()
            .ok_or_else(|| missing("secret or config", id))
    }

    /// What a template's files come from is there.
    pub(super) fn check_blobs(&self, template: &TaskTemplate) -> Outcome {
        for reference in &template.blobs {
            match self.state.blobs.get(&reference.blob) {
                None => {
                    return Err(missing(
                        reference.file.source.kind.as_str(),
                        &reference.file.source.name,
                    ));
                }
                Some(blob) if blob.spec.kind == reference.file.source.kind => {}
                Some(blob) => {
                    return refuse(
                        ErrorKind::Invalid,
                        format!("{} is no {}", blob.spec.key(), reference.file.source.kind),
                    );
                }
            }
        }
        Ok(())
    }
}
