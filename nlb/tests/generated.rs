//! Files of `manifests/` that are written from this crate. `REGENERATE=1 cargo test -p nlb --test generated` writes them.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::{fs, path::PathBuf};

fn manifests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// Compares a file with what it must be, or writes it if asked to.
fn is_fresh(name: &str, expected: &str) {
    let path = manifests().join(name);
    if std::env::var_os("REGENERATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "manifests/{name} is stale; run: REGENERATE=1 cargo test -p nlb --test generated");
}

#[test]
fn the_reference_of_annotations_is_fresh() {
    is_fresh("ANNOTATIONS.md", &nlb::annotations::reference::markdown());
}

#[test]
fn the_definition_of_targetgroupbinding_is_fresh() {
    let definition = nlb::targetgroupbinding::crd::definition().unwrap();
    let head = "# Written from the nlb crate; see nlb/tests/generated.rs.\n";
    is_fresh("crds/targetgroupbindings.yaml", &format!("{head}{}", serde_saphyr::to_string(&definition).unwrap()));
}
