//! `pgpci compress`: a closed segment of the audit trail becomes a gzip file. The server runs it, one at a time: no
//! process of PostgreSQL spends its time on that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// What to compress.
#[derive(clap::Args)]
pub struct Options {
    /// The segment's file, NAME.jsonl; NAME.jsonl.gz takes its place once it is on the disk and holds the same
    segment: PathBuf,
}

const BUFFER: usize = 256 * 1024;

/// Runs the command; an error is one line for the user.
pub fn run(options: &Options) -> Result<(), String> {
    let path = &options.segment;
    if path.extension().is_none_or(|it| it != "jsonl") {
        return Err(format!("{}: not a segment's file, NAME.jsonl", path.display()));
    }
    compress(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn compress(path: &Path) -> io::Result<()> {
    let name = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (new, whole) = (name(".gz.new"), name(".gz"));
    let done = write(path, &new).and_then(|hash| check(&new, hash)).and_then(|()| {
        fs::rename(&new, &whole)?;
        sync_directory(path)?;
        fs::remove_file(path)?;
        sync_directory(path)
    });
    if done.is_err() {
        // It may not be there; the segment is.
        let _ = fs::remove_file(&new);
    }
    done
}

/// Returns the hash of what was read.
fn write(path: &Path, new: &Path) -> io::Result<[u8; 32]> {
    let mut from = File::open(path)?;
    let to = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(new)?;
    let mut encoder = GzEncoder::new(BufWriter::with_capacity(BUFFER, to), Compression::new(3));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            len => {
                hash.update(&buffer[..len]);
                encoder.write_all(&buffer[..len])?;
            }
        }
    }
    let file = encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    // When it was last written tells which times it may hold, and when it is past its retention.
    file.set_modified(from.metadata()?.modified()?)?;
    file.sync_all()?;
    Ok(hash.finalize().into())
}

/// What was written must read as what it was written from, before that goes.
fn check(new: &Path, hash: [u8; 32]) -> io::Result<()> {
    let mut decoder = MultiGzDecoder::new(BufReader::with_capacity(BUFFER, File::open(new)?));
    let mut found = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match decoder.read(&mut buffer)? {
            0 => break,
            len => found.update(&buffer[..len]),
        }
    }
    if <[u8; 32]>::from(found.finalize()) == hash {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "what was written is not what was read"))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}
