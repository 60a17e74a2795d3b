//! Files that are replaced as a whole: after a crash there is the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes `bytes` aside and renames that over `name` in `dir`. Returns the new file, open at its end, once all is on the disk.
///
/// # Errors
///
/// The old file stays then.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<File> {
    let aside = dir.join(format!("{name}.new"));
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(aside, dir.join(name))?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}
