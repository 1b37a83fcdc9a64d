//! Tar archives without anything of the machine that made them: no times, no owners, no order but the
//! one given.

use anyhow::Result;

/// A tar archive of these regular files.
pub(crate) fn tar<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len().try_into()?);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, path, content)?;
    }
    Ok(archive.into_inner()?)
}
