//! Writes the files of a volume as the kubelet does: all of them change in one instant.
//!
//! A new directory with a time stamp for a name is filled, the link `..data` is renamed over to it, and the old
//! directory is removed. Every file that a container sees is a link into `..data`, so a watch on the file itself sees
//! nothing, and a reader never finds a mixture of old and new files.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use super::projection::Payload;

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Replaces the content of a volume. `stamp` must differ from that of the content before.
pub fn write(volume: &Path, payload: &Payload, stamp: &str) -> io::Result<()> {
    let name = format!("..{stamp}");
    let fresh = volume.join(&name);
    fs::create_dir_all(&fresh)?;
    for (path, file) in payload {
        let path = fresh.join(inside(path)?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    let old = fs::read_link(volume.join(DATA)).ok();
    let next = volume.join(NEXT);
    if let Err(e) = fs::remove_file(&next)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    symlink(&name, &next)?;
    fs::rename(&next, volume.join(DATA))?;
    update_links(volume, payload)?;
    match old {
        Some(old) if old != Path::new(&name) => fs::remove_dir_all(volume.join(old)),
        _ => Ok(()),
    }
}

/// One link per first component of the paths; links to what is gone go too.
fn update_links(volume: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The path, if it stays inside the volume and is not one of the names that this module uses.
fn inside(path: &str) -> io::Result<PathBuf> {
    let path = Path::new(path);
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    let reserved = path.to_string_lossy().starts_with("..");
    if plain && !reserved && path.components().next().is_some() {
        return Ok(path.to_owned());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is not a path inside the volume", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::projection::File;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(path, text)| ((*path).to_owned(), File { content: (*text).into(), mode: 0o640 })).collect()
    }

    fn volume(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sluice-volume-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("create");
        path
    }

    #[test]
    fn files_are_links_into_data_and_change_together() {
        let volume = volume("swap");
        write(&volume, &payload(&[("tls.crt", "c1"), ("tls.key", "k1"), ("sub/x", "x1")]), "1").expect("write");
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(path).expect("stat"));
        let link_before = inode(&volume.join("tls.crt"));
        assert_eq!(fs::read_link(volume.join("tls.crt")).expect("a link"), Path::new("..data/tls.crt"));
        assert_eq!(fs::read_link(volume.join(DATA)).expect("a link"), Path::new("..1"));
        assert_eq!(fs::read_to_string(volume.join("sub/x")).expect("read"), "x1");
        let mode = fs::metadata(volume.join("tls.key")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);

        write(&volume, &payload(&[("tls.crt", "c2"), ("tls.key", "k2")]), "2").expect("write");
        assert_eq!(fs::read_to_string(volume.join("tls.crt")).expect("read"), "c2");
        assert_eq!(inode(&volume.join("tls.crt")), link_before, "the link that containers see is not touched");
        fs::symlink_metadata(volume.join("sub")).expect_err("what is gone has no link");
        fs::symlink_metadata(volume.join("..1")).expect_err("the old directory is gone");
        fs::remove_dir_all(&volume).expect("clean up");
    }

    #[test]
    fn paths_that_leave_the_volume_are_refused() {
        let volume = volume("escape");
        for path in ["../x", "/x", "a/../../x", "..data", ""] {
            write(&volume, &payload(&[(path, "x")]), "1").expect_err(path);
        }
        fs::remove_dir_all(&volume).expect("clean up");
    }
}
