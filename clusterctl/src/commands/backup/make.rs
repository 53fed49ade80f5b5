//! `clusterctl backup FILE`

use crate::client::Client;
use crate::output;
use crate::passphrase::{self, PassphraseArgs};
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use api::backup::{Envelope, SUM};
use api::proto::backup_output::Output;
use api::proto::{
    BackupDone, BackupHeader, BackupNote, BackupRequest, GetInfoRequest, NoteBackupRequest,
};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Make {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Make a recovery key instead of taking a passphrase; it is printed once and kept nowhere
    #[arg(long, conflicts_with = "passphrase_file")]
    generate_key: bool,
    /// Replace the file if it is there
    #[arg(short, long)]
    force: bool,
}

/// A file that is there under its name only once it is whole; what is left of it otherwise goes.
struct Half {
    path: PathBuf,
    file: File,
    is_done: bool,
}

impl Half {
    fn create(target: &Path) -> Result<Self> {
        let name = target
            .file_name()
            .with_context(|| format!("{} is no file's name", target.display()))?;
        let mut half = std::ffi::OsString::from(".");
        half.push(name);
        half.push(format!(".{}", std::process::id()));
        let path = target.with_file_name(half);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => {
                    format!("can't write into the folder {}", folder.display())
                }
                _ => "can't write into this folder".into(),
            })?;
        Ok(Self {
            path,
            file,
            is_done: false,
        })
    }

    /// Durable, read again from the disk, and what was sent: then it gets its name.
    fn finish(mut self, target: &Path, done: &BackupDone, force: bool) -> Result<u64> {
        let failed = || format!("can't write {}", target.display());
        self.file.sync_all().with_context(failed)?;
        let written = fs::read(&self.path).with_context(failed)?;
        Envelope::read(&written).with_context(failed)?;
        if written.last_chunk::<SUM>().map(|sum| &sum[..]) != Some(&done.sum[..]) {
            bail!(
                "{} is not what was sent; make the backup again",
                self.path.display()
            );
        }
        if force {
            fs::rename(&self.path, target).with_context(failed)?;
        } else {
            // Unlike a rename, this replaces nothing that has come meanwhile.
            match fs::hard_link(&self.path, target) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    refuse_existing(target)?;
                }
                // Not every file system has links.
                Err(_) => fs::rename(&self.path, target).with_context(failed)?,
                Ok(()) => fs::remove_file(&self.path).with_context(failed)?,
            }
        }
        self.is_done = true;
        let parent = match target.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .with_context(failed)?;
        Ok(written.len() as u64)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if !self.is_done {
            // What can't be removed says by its name that it is half a file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refuse_existing(target: &Path) -> Result<()> {
    bail!(
        "{} is there already; give another name, or --force to replace it",
        target.display()
    )
}

pub async fn run(client: &Client, args: Make) -> Result<()> {
    let Some(target) = args.file else {
        bail!("which file? write `clusterctl backup FILE`");
    };
    if target.is_dir() {
        bail!("{} is a folder; give a file's name", target.display());
    }
    if target.exists() && !args.force {
        refuse_existing(&target)?;
    }
    let passphrase = match args.generate_key {
        true => passphrase::generate(),
        false => args.passphrase.read(true)?,
    };
    let mut half = Half::create(&target)?;
    let mut progress = Progress::start();
    progress.say("reading the cluster's state");
    let request = BackupRequest {
        passphrase: passphrase.to_string(),
    };
    let mut stream = client.control().backup(request).await?.into_inner();
    let mut done = None;
    let mut bytes = 0;
    while let Some(message) = stream.message().await? {
        match message.output {
            Some(Output::Progress(text)) => progress.say(&text),
            Some(Output::Data(data)) => {
                bytes += data.len() as u64;
                progress.update(&format!("writing {}", output::bytes(bytes)));
                half.file
                    .write_all(&data)
                    .with_context(|| format!("can't write {}", target.display()))?;
            }
            Some(Output::Done(end)) => done = Some(end),
            None => {}
        }
    }
    let done = done.context("clusterd ended the call before the backup was done")?;
    let size = half.finish(&target, &done, args.force)?;
    progress.finish();
    let header = done.header.unwrap_or_default();
    if let Err(error) = note(client, &target, &header, size).await {
        progress.note(&format!(
            "`clusterctl status` will not show this backup: {}",
            crate::failure::text(&error)
        ));
    }
    output::line(format!(
        "Backup of cluster {} at revision {}: {} ({}), restored into a scratch store and found good.",
        api::convert::cluster_id(&header.cluster_id)?,
        header.revision,
        target.display(),
        output::bytes(size)
    ))?;
    if args.generate_key {
        output::line(format!(
            "\nRecovery key: {}\n\nIt is kept nowhere else, and without it the file is worth nothing: write it down, away \
             from the file.",
            *passphrase
        ))?;
    }
    Ok(())
}

/// For `clusterctl status`.
async fn note(client: &Client, target: &Path, header: &BackupHeader, bytes: u64) -> Result<()> {
    let info = client
        .daemon()
        .get_info(GetInfoRequest {})
        .await?
        .into_inner();
    let path = std::path::absolute(target).unwrap_or_else(|_| target.to_owned());
    let note = BackupNote {
        at: header.created_at,
        node: info.node_id,
        path: path.display().to_string(),
        bytes,
        revision: header.revision,
    };
    let request = NoteBackupRequest { note: Some(note) };
    client.control().note_backup(request).await?;
    Ok(())
}
