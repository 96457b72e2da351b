//! A file that is read again when it has changed: a key, a secret or the list of API keys.
//!
//! Kubernetes changes a mounted Secret by renaming a link, editors write a new file over the old
//! one, people append to it: modification time, length and inode together tell all of these, and
//! cost no read. What is in the file is for `keys` to judge; here it is only bytes, wiped after
//! use.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use secrecy::SecretSlice;

/// One watched file.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    bytes_max: u64,
    seen: Option<Result<Stamp, String>>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl File {
    pub(super) fn new(path: &Path, bytes_max: u64) -> Self {
        Self { path: path.to_owned(), bytes_max, seen: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds, if that may be something else than at the last look, or why it cannot be
    /// read, if that is news. The first look always is.
    pub(super) fn changed(&mut self) -> Option<Result<SecretSlice<u8>, String>> {
        // The stamp is from before the read, so a write in between is seen at the next look.
        let (file, stamp) = match self.open() {
            Ok(both) => both,
            Err(why) => return self.failed(why),
        };
        if self.seen.as_ref() == Some(&Ok(stamp.clone())) {
            return None;
        }
        if stamp.bytes > self.bytes_max {
            return self.failed(format!("it has more than {} bytes", self.bytes_max));
        }
        match self.read(file, &stamp) {
            Ok(content) => {
                self.seen = Some(Ok(stamp));
                Some(Ok(content.into()))
            }
            Err(why) => self.failed(why.to_string()),
        }
    }

    fn failed(&mut self, why: String) -> Option<Result<SecretSlice<u8>, String>> {
        let told = format!("{} cannot be read: {why}", self.path.display());
        let seen = Some(Err(why));
        if self.seen == seen {
            return None;
        }
        self.seen = seen;
        Some(Err(told))
    }

    /// Opens nothing but a regular file: a pipe would wait for its writer.
    fn open(&self) -> Result<(fs::File, Stamp), String> {
        let text = |why: std::io::Error| why.to_string();
        if !fs::metadata(&self.path).map_err(text)?.is_file() {
            return Err("it is no regular file".into());
        }
        let file = fs::File::open(&self.path).map_err(text)?;
        let now = file.metadata().map_err(text)?;
        let stamp = Stamp { modified: now.modified().ok(), bytes: now.len(), inode: inode(&now) };
        Ok((file, stamp))
    }

    fn read(&self, file: fs::File, stamp: &Stamp) -> std::io::Result<Vec<u8>> {
        // Room for all of it at once: a growing vector would leave copies of a secret behind.
        let room = usize::try_from(stamp.bytes).unwrap_or_default().saturating_add(1);
        let mut content = Vec::with_capacity(room);
        file.take(self.bytes_max).read_to_end(&mut content)?;
        Ok(content)
    }
}

#[cfg(unix)]
fn inode(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
const fn inode(_: &fs::Metadata) -> u64 {
    0
}
