//! A message with many secrets and configs, in parts that a session takes: pure.
//!
//! The others add to the first as any difference does; a task whose files are still to come waits for them.

use api::proto::{AssignedBlob, Assignments};

/// Most bytes of content in one message, unless a single one is larger.
const CONTENT_MAX: usize = 8 << 20;

fn size(blob: &AssignedBlob) -> usize {
    blob.data.as_ref().map_or(0, |data| data.value.len())
}

/// The message, cut where its content is too large.
pub fn parts(mut message: Assignments) -> Vec<Assignments> {
    let revision = message.revision;
    let blobs = std::mem::take(&mut message.blobs);
    let mut parts = vec![message];
    let mut filled = 0;
    for blob in blobs {
        filled += size(&blob);
        let full = filled > CONTENT_MAX && parts.last().is_some_and(|p| !p.blobs.is_empty());
        if full {
            filled = size(&blob);
            parts.push(Assignments {
                revision,
                ..Assignments::default()
            });
        }
        if let Some(last) = parts.last_mut() {
            last.blobs.push(blob);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::proto::{AssignedTask, BlobData};

    fn message(sizes: &[usize]) -> Assignments {
        let blob = |(number, size): (usize, &usize)| AssignedBlob {
            id: vec![u8::try_from(number).unwrap(); 16].into(),
            data: Some(BlobData {
                value: vec![0; *size].into(),
            }),
        };
        Assignments {
            full: true,
            revision: 7,
            tasks: vec![AssignedTask::default()],
            blobs: sizes.iter().enumerate().map(blob).collect(),
            ..Assignments::default()
        }
    }

    #[test]
    fn a_small_message_stays_whole() {
        for sizes in [&[][..], &[1, 2, 3], &[CONTENT_MAX]] {
            assert_eq!(parts(message(sizes)), [message(sizes)]);
        }
    }

    #[test]
    fn a_large_one_is_cut_and_loses_nothing() {
        let sizes = [500 << 10; 40];
        let whole = message(&sizes);
        let parts = parts(whole.clone());
        assert_eq!(parts.len(), 3);
        assert!(parts[0].full && parts[0].tasks.len() == 1);
        assert!(
            parts[1..]
                .iter()
                .all(|p| !p.full && p.tasks.is_empty() && p.revision == 7)
        );
        let content = |part: &Assignments| part.blobs.iter().map(size).sum::<usize>();
        assert!(parts.iter().all(|part| content(part) <= CONTENT_MAX));
        let all: Vec<_> = parts.into_iter().flat_map(|part| part.blobs).collect();
        assert_eq!(all, whole.blobs);
    }
}
